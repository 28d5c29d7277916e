package content

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// vectorsDir returns the directory of the working group's examples: $VECTORS/mimi-content, or the same beside
// the repository. Only when the whole directory is absent is a test skipped, and it says so.
func vectorsDir(t *testing.T) string {
	t.Helper()
	root := os.Getenv("VECTORS")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared", "vectors")
	}
	dir := filepath.Join(root, "mimi-content")
	if _, err := os.Stat(dir); err != nil {
		fmt.Printf("NOT VERIFIED: %s: no examples of the content draft at %s; set VECTORS\n", t.Name(), dir)
		t.Skipf("NOT VERIFIED: no examples of the content draft at %s; set VECTORS", dir)
	}
	return dir
}

func readVector(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ednHex matches h'…' with line breaks and comment signs inside.
var ednHex = regexp.MustCompile(`h'([0-9a-f\s#]+)'`)

// firstID returns the first 32-octet byte string of an .edn file: the message id in the comment of a message,
// the messageId element of derived values.
func firstID(t *testing.T, edn []byte) MessageID {
	t.Helper()
	m := ednHex.FindSubmatch(edn)
	if m == nil {
		t.Fatal("no message id in the .edn file")
	}
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "\n", "", "#", "").Replace(string(m[1])))
	if err != nil {
		t.Fatal(err)
	}
	id, err := ParseMessageID(b)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestVectors decodes every example of draft-ietf-mimi-content-08, encodes it again, and computes its message id.
func TestVectors(t *testing.T) {
	dir := vectorsDir(t)
	files, err := filepath.Glob(filepath.Join(dir, "*.cbor"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 15 {
		t.Fatalf("%d .cbor files in %s, expected 15", len(files), dir)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			b := readVector(t, dir, name)
			want := firstID(t, readVector(t, dir, strings.TrimSuffix(name, ".cbor")+".edn"))
			if name == "implied-original.cbor" {
				checkDerivedVector(t, dir, b, want)
				return
			}
			m, err := Unmarshal(b)
			if err != nil {
				t.Fatal(err)
			}
			again, err := m.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(again, b) {
				t.Fatalf("encodes to\n%x\nnot\n%x", again, b)
			}
			sender, _ := m.Extensions.Text(KeySenderURI)
			room, _ := m.Extensions.Text(KeyRoomURI)
			got, err := ID(sender, room, b, m.Salt)
			if err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Fatalf("message id %v, want %v", got, want)
			}
			t.Logf("%s: 1 verified, 0 skipped (none)", name)
		})
	}
}

// derivedValues are what a receiver knows about a message besides its content (draft-ietf-mimi-content-08, MessageDerivedValues).
type derivedValues struct {
	_                    struct{} `cbor:",toarray"`
	MessageID            []byte
	HubAcceptedTimestamp uint64
	MLSGroupID           []byte
	SenderLeafIndex      uint32
	SenderClientURL      string
	SenderUserURL        string
	RoomURL              string
}

// checkDerivedVector checks implied-original. Its .cbor still holds the id of original in the form of -07,
// its .edn has today's: both are checked against original.cbor, and all other values against the .edn.
func checkDerivedVector(t *testing.T, dir string, b []byte, want MessageID) {
	var d derivedValues
	if err := decMode.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	original := readVector(t, dir, "original.cbor")
	m, err := Unmarshal(original)
	if err != nil {
		t.Fatal(err)
	}
	if old := OldID(d.SenderUserURL, d.RoomURL, original, m.Salt); !bytes.Equal(d.MessageID, old[:]) {
		t.Fatalf("id in the .cbor is %x, the -07 form of original is %v", d.MessageID, old)
	}
	today, err := ID(d.SenderUserURL, d.RoomURL, original, m.Salt)
	if err != nil {
		t.Fatal(err)
	}
	if today != want {
		t.Fatalf("id in the .edn is %v, that of original is %v", want, today)
	}
	d.MessageID = nil
	got := fmt.Sprintf("%+v", d)
	groupID, _ := hex.DecodeString("eeee0d12a7b5b5b78115ad1a1ddb13811c83fd7387c43e66799a594beeda26bf")
	wantRest := fmt.Sprintf("%+v", derivedValues{
		HubAcceptedTimestamp: 1644387225019,
		MLSGroupID:           groupID,
		SenderLeafIndex:      4,
		SenderClientURL:      "mimi://example.com/d/3b52249d-68f9-45ce-8bf5-c799f3cad7ec/0003",
		SenderUserURL:        "mimi://example.com/u/alice-smith",
		RoomURL:              "mimi://example.com/r/engineering_team",
	})
	if got != wantRest {
		t.Fatalf("values\n%s, want\n%s", got, wantRest)
	}
	t.Log("implied-original.cbor: 1 verified, 0 skipped (none; its id is of the -07 form, the .edn has today's)")
}

// TestVectorsMeaning checks that the examples mean what the draft says of them.
// S003-084, S003-085, S003-086, S003-087, S003-088.
func TestVectorsMeaning(t *testing.T) {
	dir := vectorsDir(t)
	want := map[string]Purpose{
		"original": Post, "reply": Post, "mention": Post, "mention-html": Post, "expiring": Post, "attachment": Post,
		"conferencing": Post, "multipart-1": Post, "multipart-3": Post,
		"reaction": React, "multipart-2": React, "edit": Edit, "delete": Delete, "unlike": Unlike,
	}
	for name, purpose := range want {
		m, err := Unmarshal(readVector(t, dir, name+".cbor"))
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Purpose(); got != purpose {
			t.Errorf("%s is a %v, want %v", name, got, purpose)
		}
	}
	reply, _ := Unmarshal(readVector(t, dir, "reply.cbor"))
	edit, _ := Unmarshal(readVector(t, dir, "edit.cbor"))
	if changed := edit.ChangedFields(reply); len(changed) != 0 {
		t.Errorf("edit changes %v", changed)
	}
	m, _ := Unmarshal(readVector(t, dir, "multipart-3.cbor"))
	types := func(lang string, prefer ...string) string {
		p := Preference{Languages: []string{lang}}
		for _, s := range prefer {
			mt, err := ParseMediaType(s)
			if err != nil {
				t.Fatal(err)
			}
			p.MediaTypes = append(p.MediaTypes, mt)
		}
		var out []string
		for _, s := range m.Body.Select(p) {
			out = append(out, fmt.Sprint(s.Index, s.References))
		}
		return strings.Join(out, " ")
	}
	for _, c := range []struct{ got, want string }{
		{types("en", "text/html", "image/gif", "image/png"), "3 [5]"},
		{types("fr", "text/html", "image/gif", "image/png"), "4 [5]"},
		{types("fr", "text/html", "image/png", "image/gif"), "9 [10]"},
		{types("en", "text/html", "image/png"), "8 [10]"},
		{types("de", "text/html"), "3 []"},
		{types("en", "image/png"), "10 []"},
		{types("en", "text/plain"), ""},
	} {
		if c.got != c.want {
			t.Errorf("selected %q, want %q", c.got, c.want)
		}
	}
}
