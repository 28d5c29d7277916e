package wire

import (
	"os"
	"strings"
	"testing"
)

func draftExample(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/directory_draft.json")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// S000-028: a server publishes metadata that the protocol needs. The draft's own example, with all its defects, is read.
func TestDirectoryOfTheDraft(t *testing.T) {
	d, err := UnmarshalDirectory(draftExample(t))
	if err != nil {
		t.Fatal(err)
	}
	room, err := ParseURI("mimi://a.example/r/clubhouse")
	if err != nil {
		t.Fatal(err)
	}
	for verb, want := range map[Verb]string{
		VerbKeyMaterial:     "https://mimi.example.com/v1/keyMaterial/mimi%3A%2F%2Fa.example%2Fr%2Fclubhouse",
		VerbUpdate:          "https://mimi.example.com/v1/updatemimi%3A%2F%2Fa.example%2Fr%2Fclubhouse",
		VerbRequestConsent:  "https://mimi.example.com/v1/requestConsent/mimi%3A%2F%2Fa.example%2Fr%2Fclubhouse",
		VerbIdentifierQuery: "https://mimi.example.com/v1/identifierQuery/a.example",
		VerbProxyDownload:   "https://mimi.example.com/v1/proxyDownload/mimi%3A%2F%2Fa.example%2Fr%2Fclubhouse",
	} {
		tmpl, ok := d.Endpoint(verb)
		if got := tmpl.Expand(room); !ok || got != want {
			t.Errorf("%s: %q, want %q", verb, got, want)
		}
	}
	update, ok := d.Endpoints[VerbUpdate].Slashed()
	if got := update.Expand(room); !ok || got != "https://mimi.example.com/v1/update/mimi%3A%2F%2Fa.example%2Fr%2Fclubhouse" {
		t.Errorf("second try of update: %q", got)
	}
	if _, ok := d.Endpoints[VerbNotify].Slashed(); ok {
		t.Error("notify has its slash and got another")
	}
}

func TestOwnDirectory(t *testing.T) {
	d, err := NewDirectory("https://a.example/mimi/v1", &BridgeDirectory{Version: 1, Features: []string{"bulk"}})
	if err != nil {
		t.Fatal(err)
	}
	again, err := UnmarshalDirectory(d.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	if string(again.Marshal()) != string(d.Marshal()) || len(again.Endpoints) != len(Verbs()) {
		t.Errorf("%s became %s", d.Marshal(), again.Marshal())
	}
	user, err := ParseURI("mimi://b.example/u/bob")
	if err != nil {
		t.Fatal(err)
	}
	for verb, want := range map[Verb]string{VerbKeyMaterial: "/keyMaterial/mimi%3A%2F%2Fb.example%2Fu%2Fbob", VerbRequestConsent: "/requestConsent/b.example",
		VerbUpdateConsent: "/updateConsent/b.example"} {
		if got := again.Endpoints[verb].Expand(user); got != "https://a.example/mimi/v1"+want {
			t.Errorf("%s: %q", verb, got)
		}
	}
	if !again.Bridge.Has("bulk") || !again.Bridge.Has("keyMaterials") || again.Bridge.Has("nonsense") {
		t.Error("features")
	}
	for _, v := range ExtensionVerbs() {
		if tmpl, ok := again.Endpoint(v); !ok || tmpl.ExpandText("x") != "https://a.example/mimi/v1/bridge/"+string(v)+"/x" {
			t.Errorf("endpoint of an extension %q", tmpl)
		}
	}
	d, err = NewDirectory("https://a.example/mimi/v1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := d.Endpoint(VerbKeyMaterials); ok || d.Bridge.Has("bulk") {
		t.Error("an absent object offers something")
	}
}

// What is wrong in a peer's object is left out, and what is too much as well.
func TestBridgeDirectoryBounds(t *testing.T) {
	const head = `{"notify":"https://a.example/{x}","mimi-bridge":`
	for name, in := range map[string]string{"list": "[]", "text": `"x"`, "no version": "{}", "version 0": `{"version":0}`, "version text": `{"version":"1"}`, "null": "null"} {
		if d, err := UnmarshalDirectory([]byte(head + in + "}")); err != nil || d.Bridge != nil {
			t.Errorf("%s: %v, %v", name, d, err)
		}
	}
	many := strings.Repeat(`"x",`, 100) + `"y"`
	d, err := UnmarshalDirectory([]byte(head + `{"version":7,"software":"` + strings.Repeat("x", 300) + `","contact":"a\u0000b","ciphersuites":[1,"2",3,70000],"features":[` + many + `,4],
		"endpoints":{"keyMaterials":"http://a.example/{x}","other":"https://a.example/{x}"},"assetDomains":["127.0.0.1","cdn.example"],"credentialAuthorities":["MAA=","","?",5,"` + strings.Repeat("AAAA", 1<<12) + `"],"more":{}}}`))
	if err != nil || d.Bridge == nil {
		t.Fatal(err)
	}
	b := d.Bridge
	if b.Version != 7 || b.Software != "" || b.Contact != "" || len(b.Suites) != 2 || len(b.Features) != 64 || len(b.Endpoints) != 0 || len(b.AssetDomains) != 1 || len(b.Authorities) != 1 {
		t.Errorf("%+v", b)
	}
}

func TestDirectoryRefused(t *testing.T) {
	for name, in := range map[string]string{
		"empty": "", "list": "[]", "no endpoint": "{}", "http": `{"notify":"http://a.example/{x}"}`, "no variable": `{"notify":"https://a.example/x"}`,
		"two variables": `{"notify":"https://a.example/{x}/{y}"}`, "operator": `{"notify":"https://a.example/{+x}"}`, "variable in host": `{"notify":"https://{x}.example/n"}`,
		"variable is host": `{"notify":"https://{x}/n"}`, "query": `{"notify":"https://a.example/n?x={x}"}`, "fragment": `{"notify":"https://a.example/#{x}"}`,
		"user": `{"notify":"https://u@a.example/{x}"}`, "address": `{"notify":"https://127.0.0.1/{x}"}`, "v6": `{"notify":"https://[::1]/{x}"}`,
		"deep": `{"notify":"https://a.example/{x}","y":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + "}",
		"long": `{"notify":"https://a.example/{x}","y":"` + strings.Repeat("x", MaxDirectory) + `"}`, "trailing": `{"notify":"https://a.example/{x}"} x`,
		"number": `{"notify":1}`, "space": `{"notify":"https://a.example/a b/{x}"}`, "after": `{"notify":"https://a.example/{x}?y"}`,
	} {
		if d, err := UnmarshalDirectory([]byte(in)); err == nil {
			t.Errorf("%s: %s", name, d.Marshal())
		}
	}
	// one bad endpoint does not spoil the others, and a broken own object is as good as none
	d, err := UnmarshalDirectory([]byte(`{"notify":"https://a.example/{x}","update":"ftp://a.example/{x}","mimi-bridge":{"version":"1"},"other":null}`))
	if err != nil || len(d.Endpoints) != 1 || d.Bridge != nil {
		t.Errorf("%v, %v", d, err)
	}
}

func TestDownloadURL(t *testing.T) {
	const raw = "https://CDN.a.example/x%20y?z=1"
	for _, form := range []string{PathEscape(raw), raw} {
		u, err := ParseDownloadURL(form)
		if err != nil || u.String() != raw || u.Host() != "cdn.a.example" {
			t.Errorf("%q: %q %q, %v", form, u, u.Host(), err)
		}
	}
	if u, err := CheckDownloadURL("https://cdn.a.example:443/x"); err != nil || u.Host() != "cdn.a.example" {
		t.Errorf("port 443: %v", err)
	}
	for _, bad := range []string{"", "http://a.example/x", "https://u@a.example/x", "https://a.example:8443/x", "https://a.example:/x", "https://127.0.0.1/x",
		"https://[::1]/x", "https://2130706433/x", "https://a.example/x#y", "https:a.example", "file:///etc/passwd", "https:///x", "https://a.example/\x00",
		"https://a.example/" + strings.Repeat("x", MaxDownloadURL)} {
		if u, err := CheckDownloadURL(bad); err == nil {
			t.Errorf("%q passed as %q", bad, u)
		}
		if u, err := ParseDownloadURL(PathEscape(bad)); err == nil {
			t.Errorf("%q passed escaped as %q", bad, u)
		}
	}
}
