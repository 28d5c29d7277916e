package content

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

func TestMediaTypes(t *testing.T) {
	parse := func(s string) MediaType {
		t.Helper()
		m, err := ParseMediaType(s)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	equal := [][2]string{
		{"text/plain;charset=utf-8", "Text/PLAIN; charset=UTF-8"},
		{"text/markdown;variant=GFM-MIMI", `text/markdown ; Variant="gfm-mimi"`},
		{"a/b;x=1;y=2", "a/b; y=2; x=1"},
	}
	for _, pair := range equal {
		if x, y := parse(pair[0]), parse(pair[1]); !x.Equal(y) || !y.Equal(x) {
			t.Errorf("%q and %q differ", pair[0], pair[1])
		}
	}
	different := [][2]string{
		{"text/plain", "text/plain;charset=utf-8"}, {"text/plain", "text/html"}, {"a/b;x=a", "a/b;x=A"}, {"a/b;x=1", "a/b;y=1"},
	}
	for _, pair := range different {
		if x, y := parse(pair[0]), parse(pair[1]); x.Equal(y) || y.Equal(x) {
			t.Errorf("%q and %q are equal", pair[0], pair[1])
		}
	}
	if !parse("text/markdown;variant=GFM-MIMI").Matches(parse("text/markdown")) || parse("text/markdown").Matches(parse("text/markdown;variant=GFM-MIMI")) {
		t.Error("a pattern without parameters stands for all variants, and not the other way round")
	}
	if !parse("image/png").Matches(parse("image/*")) || parse("text/plain").Matches(parse("image/*")) || !parse("a/b").Matches(parse("*/*")) {
		t.Error("wildcards")
	}
	for _, bad := range []string{"", "text", "text/", "/plain", "text/plain;x", "text/plain;x=1;x=2", "a b/c"} {
		if m, err := ParseMediaType(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v, %v", bad, m, err)
		}
	}
	odd := MediaType{Type: "a/b", Parameters: map[string]string{"q": `say "hi" \ now`, "empty": ""}}
	if back := parse(odd.String()); !back.Equal(odd) {
		t.Errorf("%s came back as %s", odd, back)
	}
}

func TestMediaTypeTLS(t *testing.T) {
	// type<V> = "text/x" (6), parameters<V> = 6 octets: name<V> "n" , value<V> "vv" and one octet each of length.
	want := append([]byte{6}, "text/x"...)
	want = append(want, 5, 1, 'n', 2, 'v', 'v')
	m := MediaType{Type: "text/x", Parameters: map[string]string{"n": "vv"}}
	if got := m.Append(nil); !bytes.Equal(got, want) {
		t.Errorf("encodes to %x, want %x", got, want)
	}
	r := tlspl.NewReader(want)
	if back := ReadMediaType(r); r.Close() != nil || !back.Equal(m) {
		t.Errorf("decodes to %v, %v", back, r.Err())
	}
	list := []MediaType{{Type: TypeMIMI}, m}
	read := func(b []byte) ([]MediaType, error) {
		r := tlspl.NewReader(b)
		list := ReadMediaTypes(r)
		return list, r.Close()
	}
	if back, err := read(AppendMediaTypes(nil, list)); err != nil || fmt.Sprint(back) != fmt.Sprint(list) {
		t.Errorf("list %v, %v", back, err)
	}
	for name, bad := range map[string][]byte{
		"nothing": {}, "parameter twice": vectorOf(append([]byte{1, 'a'}, 8, 1, 'n', 1, 'v', 1, 'N', 1, 'v')),
	} {
		if got, err := read(bad); err == nil || got != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	many := tlspl.AppendVector(nil, func(b []byte) []byte { return append(b, make([]byte, 2*(maxMediaTypes+1))...) })
	if _, err := read(many); err == nil {
		t.Error("too many media types are taken")
	}
}

// vectorOf wraps body into a vector.
func vectorOf(body []byte) []byte { return tlspl.AppendOpaque(nil, body) }

func TestStatusReport(t *testing.T) {
	id := func(n byte) (id MessageID) {
		id[0], id[31] = 1, n
		return id
	}
	zeros := "000000000000000000000000000000000000000000000000000000000000"
	want := unhex(t, "82 82 5820 01"+zeros+"0a 02 82 5820 01"+zeros+"0b 18c8")
	report := StatusReport{{id(10), Read}, {id(11), 200}}
	got, err := report.Marshal()
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("encodes to %x, %v", got, err)
	}
	back, err := UnmarshalStatus(want)
	if err != nil || fmt.Sprint(back) != fmt.Sprint(report) {
		t.Fatalf("decodes to %v, %v", back, err)
	}
	if _, err := UnmarshalStatus([]byte{0x80}); err != nil {
		t.Errorf("an empty report is one: %v", err)
	}
	refused := map[string]struct {
		in   string
		want error
	}{
		"unknown hash":    {"81 82 5820 02" + zeros + "0a 02", ErrDiscard},
		"short id":        {"81 82 581f 01" + zeros + "02", ErrMalformed},
		"three elements":  {"81 83 5820 01" + zeros + "0a 02 02", ErrMalformed},
		"status 256":      {"81 82 5820 01" + zeros + "0a 190100", ErrMalformed},
		"long form":       {"81 82 5820 01" + zeros + "0a 1802", ErrNotDeterministic},
		"not an array":    {"a0", ErrMalformed},
		"nested too deep": {"81 82 81 00 00", ErrLimit},
	}
	for name, c := range refused {
		if _, err := UnmarshalStatus(unhex(t, c.in)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (StatusReport{{}}).Marshal(); err == nil {
		t.Error("a status of no message is written")
	}
	if _, err := make(StatusReport, MaxStatuses+1).Marshal(); !errors.Is(err, ErrLimit) {
		t.Errorf("too many: %v", err)
	}
	full := make(StatusReport, MaxStatuses)
	for i := range full {
		full[i].ID = id(byte(i))
	}
	b, err := full.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := UnmarshalStatus(b); err != nil {
		t.Errorf("%d entries: %v", MaxStatuses, err)
	}
	m := message(Part{Body: SinglePart{ContentType: TypeStatus, Content: want}})
	if in, ok, err := StatusIn(m); !ok || err != nil || len(in) != 2 {
		t.Errorf("inside a message: %v, %v, %v", in, ok, err)
	}
	if _, ok, err := StatusIn(message(text("x"))); ok || err != nil {
		t.Errorf("in an ordinary message: %v, %v", ok, err)
	}
}

func TestExtendedTime(t *testing.T) {
	if ms, ok := parseExtendedTime(unhex(t, "a2 01 1a6553f100 22 187b")); !ok || ms != 1_700_000_000_123 {
		t.Errorf("time %d, %v", ms, ok)
	}
	for name, item := range map[string]string{"nothing": "", "no seconds": "a1 22 00", "not a map": "00", "fraction too large": "a2 01 00 22 1903e8"} {
		if ms, ok := parseExtendedTime(unhex(t, item)); ok {
			t.Errorf("%s is read as %d", name, ms)
		}
	}
}

func TestExtensionHelpers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := message(text("x"))
		ms := rapid.Uint64Range(0, 1<<50).Draw(t, "ms")
		id, domain := rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "id"), rapid.StringN(0, 50, 200).Draw(t, "domain")
		m.Extensions.SetSenderTimestamp(ms)
		m.Extensions.SetExternalID(id, domain)
		b, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		back, err := Unmarshal(b)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := back.Extensions.SenderTimestamp(); !ok || got != ms {
			t.Fatalf("time %d, want %d", got, ms)
		}
		if gotID, gotDomain, ok := back.Extensions.ExternalID(); !ok || !bytes.Equal(gotID, id) || gotDomain != domain {
			t.Fatalf("external id %x of %q", gotID, gotDomain)
		}
	})
	e := Extensions{KeyExternalID: unhex(t, "82 41 01 18 2a"), KeySenderTimestamp: []byte{0}, KeySubject: {0}}
	if _, _, ok := e.ExternalID(); ok {
		t.Error("an external id with a number as scope was taken")
	}
	if _, ok := e.SenderTimestamp(); ok {
		t.Error("a number was taken for a time")
	}
	if _, ok := e.Text(KeySubject); ok {
		t.Error("a number was taken for a text")
	}
	if _, ok := (Extensions)(nil).SenderTimestamp(); ok {
		t.Error("a time was found where there is none")
	}
	if KeySubject.String() != "5" || TextKey("x").String() != `"x"` {
		t.Error("names of keys")
	}
}
