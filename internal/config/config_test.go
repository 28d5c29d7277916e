package config

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"sort"
	"strings"
	"testing"
	"time"
)

func example(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile("../../config.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// keysOf lists the dotted keys of a section, without those of mappings.
func keysOf(v reflect.Type, prefix string) []string {
	var out []string
	for i := range v.NumField() {
		f := v.Field(i)
		tag := f.Tag.Get("yaml")
		if tag == "" {
			continue
		}
		out = append(out, join(prefix, tag))
		if f.Type.Kind() == reflect.Struct {
			out = append(out, keysOf(f.Type, join(prefix, tag))...)
		}
	}
	return out
}

func TestExampleSaysEveryKeyWithItsDefault(t *testing.T) {
	c, err := Parse("config.example.yaml", example(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keysOf(reflect.TypeFor[Config](), "") {
		if c.lines[key] == 0 {
			t.Errorf("config.example.yaml does not have %s", key)
		}
	}
	want := Default()
	c.file, c.lines = "", nil
	if !reflect.DeepEqual(*c, want) {
		t.Errorf("config.example.yaml gives\n%+v\nthe defaults are\n%+v", *c, want)
	}
	for _, key := range keysOf(reflect.TypeFor[Peer](), "") {
		if !bytes.Contains(example(t), []byte(key)) {
			t.Errorf("config.example.yaml does not mention %s of a peer", key)
		}
	}
}

func TestExampleHasASentenceForEveryKey(t *testing.T) {
	key := regexp.MustCompile(`^\s*[a-z0-9_]+:`)
	before := ""
	sc := bufio.NewScanner(bytes.NewReader(example(t)))
	for n := 1; sc.Scan(); n++ {
		line := sc.Text()
		if key.MatchString(line) && !strings.HasPrefix(strings.TrimSpace(before), "# ") {
			t.Errorf("line %d has no sentence above it: %s", n, line)
		}
		before = line
	}
}

// The example itself must stop with nothing but the two keys that the operator
// has to set.
func TestExampleLacksOnlyTheTwoDomains(t *testing.T) {
	c, err := Parse("config.example.yaml", example(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	ps, _ := c.Validate().(Problems)
	var keys []string
	for _, p := range ps {
		keys = append(keys, p.Key)
		if p.Line == 0 || p.Remedy == "" {
			t.Errorf("no line or no remedy: %s", p)
		}
	}
	if strings.Join(keys, " ") != "homeserver.domain mimi.domain" {
		t.Fatalf("problems: %v", ps)
	}
}

const minimal = "homeserver: {domain: hs.example}\nmimi: {domain: mimi.example}\n"

func TestMinimalSettingsAreGood(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(path, []byte(minimal), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path, []string{"HOME=/root", "MIMIBRIDGE_MIMI__LISTEN=127.0.0.1:9000"})
	if err != nil {
		t.Fatal(err)
	}
	if c.MIMI.Listen != "127.0.0.1:9000" || c.MIMI.Extensions != true {
		t.Fatalf("got %+v", c.MIMI)
	}
	for _, p := range []string{string(c.Appservice.RegistrationFile), string(c.MIMI.TLS.KeyFile), c.Database.URI, string(c.Assets.Directory)} {
		if filepath.Dir(p) != dir {
			t.Errorf("%s does not count from the directory of the file", p)
		}
	}
	if c.Appservice.ASTokenFile != "" {
		t.Errorf("an empty path became %s", c.Appservice.ASTokenFile)
	}
}

// Each file under testdata/bad begins with the problem that it must give.
func TestBadSettingsStopWithLineAndRemedy(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := strings.Cut(string(data), "\n")
			want, ok := strings.CutPrefix(first, "# want: ")
			if !ok {
				t.Fatal("the first line does not say what is wanted")
			}
			_, err = Load(path, nil)
			got, _ := err.(Problems)
			if len(got) != 1 {
				t.Fatalf("want one problem, got %v", err)
			}
			if got[0].String() != path+want {
				t.Errorf("\n got %s\nwant %s%s", got[0], path, want)
			}
		})
	}
}

func TestAllProblemsAreReportedInOrderOfLines(t *testing.T) {
	_, err := Parse("c.yaml", []byte("nonsense: 1\nhomeserver: {adress: x}\nlimits: {mentions: many}\n"), []string{"MIMIBRIDGE_LOGING__LEVEL=info"})
	ps, _ := err.(Problems)
	if len(ps) != 4 || ps[0].File != "environment" || ps[1].Line != 1 || ps[2].Line != 2 || ps[3].Line != 3 {
		t.Fatalf("%v", err)
	}
	if ps[2].Remedy != `did you mean "address"?` {
		t.Errorf("remedy is %s", ps[2].Remedy)
	}
}

func TestEveryKeyCanBeSetByEnvironment(t *testing.T) {
	values := map[string]string{"bool": "true", "int": "7"}
	for _, key := range keysOf(reflect.TypeFor[Config](), "") {
		c := Default()
		v := reflect.ValueOf(&c).Elem()
		for _, part := range strings.Split(key, ".") {
			v = fieldsOf(v)[part]
		}
		if v.Kind() == reflect.Struct {
			continue
		}
		before := v.Interface()
		name := EnvPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "__"))
		value := values[v.Kind().String()]
		switch before := before.(type) {
		case bool:
			if before {
				value = "false"
			}
		case Duration:
			value = "3m33s"
		case Size:
			value = "3 MiB"
		case Permissions:
			value = "{'@a:b.example': admin}"
		case map[string]Peer:
			value = "{two.example: {consent: closed}}"
		case []string:
			value = "[a.example]"
		case []int:
			value = "[3]"
		case string, Path:
			value = "text: with # odd 'signs'"
		default:
			if value == "" {
				value = other(t, v)
			}
		}
		got, err := Parse("c.yaml", nil, []string{name + "=" + value})
		if err != nil {
			t.Errorf("%s=%s: %v", name, value, err)
			continue
		}
		v = reflect.ValueOf(got).Elem()
		for _, part := range strings.Split(key, ".") {
			v = fieldsOf(v)[part]
		}
		if reflect.DeepEqual(v.Interface(), before) {
			t.Errorf("%s=%s changed nothing", name, value)
		}
	}
}

// other returns a value of a closed list that is not the default.
func other(t *testing.T, v reflect.Value) string {
	words := []string{"on", "synapse", "postgres", "listed", "file", "closed", "off", "x509", "rfc9421", "debug", "json", "hub"}
	for _, w := range words {
		try := reflect.New(v.Type())
		u, ok := try.Interface().(interface{ UnmarshalText([]byte) error })
		if ok && u.UnmarshalText([]byte(w)) == nil && try.Elem().Interface() != v.Interface() {
			return w
		}
	}
	t.Fatalf("no other value for %s", v.Type())
	return ""
}

func TestPermissions(t *testing.T) {
	c := Default()
	c.Homeserver.Domain = "hs.example"
	check := func(user string, want Level) {
		t.Helper()
		if got := c.Permission(user); got != want {
			t.Errorf("%s is %s, want %s", user, got, want)
		}
	}
	check("@a:hs.example", LevelUser)
	check("@a:other.example", LevelBlock)
	check("@a", LevelBlock)
	c.Bridge.Permissions = Permissions{"*": LevelUser, "hs.example:8448": LevelAdmin, "@bad:hs.example:8448": LevelBlock}
	check("@a:hs.example:8448", LevelAdmin)
	check("@bad:hs.example:8448", LevelBlock)
	check("@a:hs.example", LevelUser)
	c.Bridge.Permissions = Permissions{"@a:hs.example": LevelAdmin}
	check("@b:hs.example", LevelBlock)
	// The ghosts of another bridge, one of whom is somebody after all.
	c.Bridge.Permissions = Permissions{"hs.example": LevelUser, "*": LevelUser, "@irc_*:hs.example": LevelBlock, "@irc_ops*:hs.example": LevelAdmin, "@irc_a.b:hs.example": LevelUser}
	check("@irc_x/y:hs.example", LevelBlock)
	check("@irc_ops1:hs.example", LevelAdmin)
	check("@irc_a.b:hs.example", LevelUser)
	check("@irc_aXb:hs.example", LevelBlock)
	check("@irc:hs.example", LevelUser)
	check("@x:hs.example", LevelUser)
	c.Bridge.Permissions = Permissions{"@*-bot:hs.*": LevelUser, "@a*b*a:hs": LevelUser}
	check("@some-bot:hs.example", LevelUser)
	check("@-bot:hs.", LevelUser)
	check("@some-bot:other.example", LevelBlock)
	check("@aba:hs", LevelUser)
	check("@aa:hs", LevelBlock)
	c.Bridge.Permissions = Permissions{"hs.example": LevelUser, "*": LevelUser, "@irc_*:hs.example": LevelBlock, "@irc_ops*:hs.example": LevelAdmin}
	check("@irc_x:hs.example.org", LevelUser)
	if got := c.Admins(); len(got) != 0 {
		t.Errorf("a name with * in it is nobody to tell: %q", got)
	}
}

func TestPeerTrust(t *testing.T) {
	yes := true
	c := Default()
	c.MIMI.Peers = map[string]Peer{
		"a.example": {Roots: RootsPinned, Pins: []string{"00"}, RequireClientUsage: &yes},
		"b.example": {Consent: ConsentClosed},
		"c.example": {Blocked: true},
	}
	if tr, ok := c.PeerTrust("a.example"); !ok || tr.Roots != RootsPinned || !tr.RequireClientUsage || tr.Consent != ConsentOpen {
		t.Error(tr, ok)
	}
	if tr, ok := c.PeerTrust("b.example"); !ok || tr.Roots != RootsPublic || tr.Consent != ConsentClosed {
		t.Error(tr, ok)
	}
	if _, ok := c.PeerTrust("c.example"); ok {
		t.Error("a blocked peer is allowed")
	}
	if _, ok := c.PeerTrust("d.example"); !ok {
		t.Error("an unlisted peer is refused though federation is open")
	}
	c.MIMI.Federation = FederationListed
	if _, ok := c.PeerTrust("d.example"); ok {
		t.Error("an unlisted peer is allowed though federation is listed")
	}
}

func TestDurationAndSizeForms(t *testing.T) {
	for in, want := range map[string]time.Duration{"30s": 30 * time.Second, "14d": 14 * 24 * time.Hour, "1d12h": 36 * time.Hour, "0s": 0, "500ms": 500 * time.Millisecond} {
		var d Duration
		if err := d.UnmarshalText([]byte(in)); err != nil || d.D() != want {
			t.Errorf("%s is %v, %v", in, d.D(), err)
		}
		out, err := d.MarshalText()
		var again Duration
		if err != nil || again.UnmarshalText(out) != nil || again != d {
			t.Errorf("%s is written as %s", in, out)
		}
	}
	for _, in := range []string{"", "d", "-5s", "5", "1x", "-1d", "1d-5h", "99999d99999999h", "2562047h47m"} {
		var d Duration
		if err := d.UnmarshalText([]byte(in)); err == nil && in != "2562047h47m" {
			t.Errorf("%q is taken as %v", in, d.D())
		}
	}
	for in, want := range map[string]Size{"0": 0, "512 B": 512, "64 KiB": 64 << 10, "1MiB": 1 << 20, "10 GiB": 10 << 30} {
		var s Size
		if err := s.UnmarshalText([]byte(in)); err != nil || s != want {
			t.Errorf("%s is %d, %v", in, s, err)
		}
		out, err := s.MarshalText()
		var again Size
		if err != nil || again.UnmarshalText(out) != nil || again != s {
			t.Errorf("%s is written as %s", in, out)
		}
	}
	for _, in := range []string{"", "512", "1 MB", "-1", "1.5 MiB", "99999999999 GiB", "KiB"} {
		var s Size
		if err := s.UnmarshalText([]byte(in)); err == nil {
			t.Errorf("%q is taken as %d", in, s)
		}
	}
}

func TestReadSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	write := func(text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	write("hunter2\n", 0o440)
	if s, err := ReadSecret(Path(path)); err != nil || s != "hunter2" {
		t.Fatalf("%q, %v", s, err)
	}
	for text, mode := range map[string]os.FileMode{"hunter3\n": 0o644, "\n": 0o600} {
		write(text, mode)
		_, err := ReadSecret(Path(path))
		if err == nil || strings.Contains(err.Error(), "hunter3") {
			t.Errorf("%q with mode %o: %v", text, mode, err)
		}
	}
}

func FuzzConfigYAML(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add([]byte("mimi: {peers: {a.example: {pins: [00]}}}"))
	f.Add([]byte("a: &x {b: *x}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4096 {
			return
		}
		c, err := Parse("f.yaml", data, nil)
		if err != nil {
			if ps, ok := err.(Problems); !ok || len(ps) == 0 || !sort.SliceIsSorted(ps, func(i, j int) bool { return ps[i].Line < ps[j].Line }) {
				t.Fatalf("the error is no sorted list of problems: %v", err)
			}
			return
		}
		_ = c.Validate()
	})
}
