package content

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const (
	alice = "mimi://a.example/u/alice"
	room  = "mimi://hub.example/r/clubhouse"
)

func text(s string) Part {
	return Part{Disposition: Render, Body: SinglePart{ContentType: TypePlain, Content: []byte(s)}}
}

func message(body Part) *Message {
	m := &Message{Salt: Salt{1, 2, 3}, TopicID: []byte{}, Extensions: Extensions{}, Body: body}
	m.Extensions.SetNames(alice, room)
	return m
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// small is a message with all optional fields absent, in pieces that the refusal table changes.
const (
	smallSalt = "50 000102030405060708090a0b0c0d0e0f"
	smallBody = "85 01 60 01 60 40"
)

func TestRefusals(t *testing.T) {
	salt, body := smallSalt, smallBody
	zeros := strings.Repeat("00", 31)
	nested := func(levels int) string {
		s := "83 01 60 00"
		for range levels - 1 {
			s = "85 01 60 03 02 82 83 01 60 00" + s
		}
		return s
	}
	many := func(n int) string {
		head := hex.EncodeToString(appendHead(nil, majorArray, uint64(n)))
		return "85 01 60 03 02" + head + strings.Repeat("83016000", n)
	}
	topic := func(n int) string {
		return hex.EncodeToString(appendHead(nil, majorBytes, uint64(n))) + strings.Repeat("00", n)
	}
	external := func(encAlg, key string) string {
		return "8f 01 60 02 60 60 00 00" + encAlg + key + "40 40 00 40 60 60"
	}
	cases := []struct {
		name, in string
		want     error // nil: accepted
	}{
		{"smallest message", "87" + salt + "f6 40 f6 f6 a0" + body, nil},
		{"null part", "87" + salt + "f6 40 f6 f6 a0 83 01 60 00", nil},
		{"unknown disposition is kept", "87" + salt + "f6 40 f6 f6 a0 83 18ff 60 00", nil},
		{"private extensions", "87" + salt + "f6 40 f6 f6 a3 00 f6 20 01 61 78 f5" + body, nil},
		{"largest and smallest integer key", "87" + salt + "f6 40 f6 f6 a2 1b001fffffffffffff 01 3b001ffffffffffffe 01" + body, nil},
		{"extensions four levels deep", "87" + salt + "f6 40 f6 f6 a1 190100 81 81 d820 60" + body, nil},
		{"extension with a byte string key inside", "87" + salt + "f6 40 f6 f6 a1 06 a1 4100 01" + body, nil},
		{"extension with half float and quiet NaN", "87" + salt + "f6 40 f6 f6 a1 06 82 f93c00 f97e00" + body, nil},
		{"extension with a true bignum", "87" + salt + "f6 40 f6 f6 a1 06 c2 49 010000000000000000" + body, nil},
		{"relative expiration", "87" + salt + "f6 40 82 f5 1a00015180 f6 a0" + body, nil},
		{"four levels of parts", "87" + salt + "f6 40 f6 f6 a0" + nested(4), nil},
		{"1024 parts", "87" + salt + "f6 40 f6 f6 a0" + many(1023), nil},
		{"topic id of 4096 octets", "87" + salt + "f6" + topic(4096) + "f6 f6 a0" + body, nil},
		{"external part without encryption", "87" + salt + "f6 40 f6 f6 a0" + external("00", "40"), nil},

		{"empty input", "", ErrMalformed},
		{"truncated", "87" + salt + "f6 40 f6 f6 a0 85 01 60 01 60", ErrMalformed},
		{"trailing octet", "87" + salt + "f6 40 f6 f6 a0" + body + "00", ErrMalformed},
		{"not an array", "a0", ErrMalformed},
		{"six fields", "86" + salt + "f6 40 f6 f6 a0", ErrMalformed},
		{"eight fields", "88" + salt + "f6 40 f6 f6 a0" + body + "00", ErrMalformed},
		{"tag around the message", "d9d9f7 87" + salt + "f6 40 f6 f6 a0" + body, ErrMalformed},
		{"tag around the salt", "87 c1" + salt + "f6 40 f6 f6 a0" + body, ErrMalformed},
		{"salt of 15 octets", "87 4f 000102030405060708090a0b0c0d0e f6 40 f6 f6 a0" + body, ErrMalformed},
		{"salt is a text", "87 70" + strings.Repeat("61", 16) + "f6 40 f6 f6 a0" + body, ErrMalformed},
		{"replaces of 31 octets", "87" + salt + "581f" + strings.Repeat("01", 31) + "40 f6 f6 a0" + body, ErrMalformed},
		{"replaces with unknown hash", "87" + salt + "5820 02" + zeros + "40 f6 f6 a0" + body, ErrDiscard},
		{"inReplyTo with unknown hash", "87" + salt + "f6 40 f6 5820 00" + zeros + "a0" + body, ErrDiscard},
		{"undefined for null", "87" + salt + "f7 40 f6 f6 a0" + body, ErrMalformed},
		{"topic id is null", "87" + salt + "f6 f6 f6 f6 a0" + body, ErrMalformed},
		{"topic id of 4097 octets", "87" + salt + "f6" + topic(4097) + "f6 f6 a0" + body, ErrDiscard},
		{"expiration time of 33 bits", "87" + salt + "f6 40 82 f4 1b0000000100000000 f6 a0" + body, ErrMalformed},
		{"expiration with three elements", "87" + salt + "f6 40 83 f4 00 00 f6 a0" + body, ErrMalformed},
		{"expiration with null for the boolean", "87" + salt + "f6 40 82 f6 00 f6 a0" + body, ErrNotDeterministic},
		{"extensions are an array", "87" + salt + "f6 40 f6 f6 80" + body, ErrMalformed},
		{"extension key is an array", "87" + salt + "f6 40 f6 f6 a1 80 01" + body, ErrMalformed},
		{"extension key is a byte string", "87" + salt + "f6 40 f6 f6 a1 4101 01" + body, ErrMalformed},
		{"extension key is an empty text", "87" + salt + "f6 40 f6 f6 a1 60 01" + body, ErrMalformed},
		{"extension name of 256 octets", "87" + salt + "f6 40 f6 f6 a1 790100" + strings.Repeat("61", 256) + "01" + body, ErrLimit},
		{"extension key 2^53", "87" + salt + "f6 40 f6 f6 a1 1b0020000000000000 01" + body, ErrLimit},
		{"extension key -2^53", "87" + salt + "f6 40 f6 f6 a1 3b001fffffffffffff 01" + body, ErrLimit},
		{"duplicate extension", "87" + salt + "f6 40 f6 f6 a2 06 01 06 02" + body, ErrNotDeterministic},
		{"extensions in wrong order", "87" + salt + "f6 40 f6 f6 a2 07 01 06 02" + body, ErrNotDeterministic},
		{"extensions in RFC 7049 order", "87" + salt + "f6 40 f6 f6 a2 6178 01 190100 01" + body, ErrNotDeterministic},
		{"extensions five levels deep", "87" + salt + "f6 40 f6 f6 a1 06 81 81 81 80" + body, ErrLimit},
		{"sender URI is a byte string", "87" + salt + "f6 40 f6 f6 a1 01 4100" + body, ErrMalformed},
		{"indefinite text", "87" + salt + "f6 40 f6 f6 a1 06 7f 6161 ff" + body, ErrNotDeterministic},
		{"indefinite array", "9f" + salt + "f6 40 f6 f6 a0" + body + "ff", ErrNotDeterministic},
		{"length in a long form", "87" + salt + "f6 5800 f6 f6 a0" + body, ErrNotDeterministic},
		{"integer in a long form", "87" + salt + "f6 40 f6 f6 a1 06 1817" + body, ErrNotDeterministic},
		{"integer in 4 octets that fits 2", "87" + salt + "f6 40 f6 f6 a1 06 1a0000ffff" + body, ErrNotDeterministic},
		{"float in a long form", "87" + salt + "f6 40 f6 f6 a1 06 fa3f800000" + body, ErrNotDeterministic},
		{"double in a long form", "87" + salt + "f6 40 f6 f6 a1 06 fb3ff0000000000000" + body, ErrNotDeterministic},
		{"half subnormal in 4 octets", "87" + salt + "f6 40 f6 f6 a1 06 fa33800000" + body, ErrNotDeterministic},
		{"signalling NaN", "87" + salt + "f6 40 f6 f6 a1 06 f97d00" + body, ErrNotDeterministic},
		{"bignum that fits an integer", "87" + salt + "f6 40 f6 f6 a1 06 c2 4101" + body, ErrNotDeterministic},
		{"simple value in a long form", "87" + salt + "f6 40 f6 f6 a1 06 f818" + body, ErrMalformed},
		{"reserved initial octet", "87" + salt + "f6 40 f6 f6 a1 06 1c" + body, ErrMalformed},
		{"text that is not UTF-8", "87" + salt + "f6 40 f6 f6 a0 85 01 61ff 01 60 40", ErrMalformed},
		{"huge array", "87" + salt + "f6 40 f6 f6 9bffffffffffffffff", ErrMalformed},
		{"huge string", "87 5bffffffffffffffff", ErrMalformed},
		{"huge map", "87" + salt + "f6 40 f6 f6 bbffffffffffffffff", ErrMalformed},
		{"deep arrays", strings.Repeat("81", 5000) + "00", ErrLimit},
		{"deep tags", strings.Repeat("c1", 5000) + "00", ErrLimit},
		{"five levels of parts", "87" + salt + "f6 40 f6 f6 a0" + nested(5), ErrLimit},
		{"1025 parts", "87" + salt + "f6 40 f6 f6 a0" + many(1024), ErrLimit},
		{"multipart of one part", "87" + salt + "f6 40 f6 f6 a0" + many(1), ErrMalformed},
		{"unknown semantics", "87" + salt + "f6 40 f6 f6 a0 85 01 60 03 03 82 83016000 83016000", ErrDiscard},
		{"unknown cardinality", "87" + salt + "f6 40 f6 f6 a0 83 01 60 04", ErrMalformed},
		{"null part with content", "87" + salt + "f6 40 f6 f6 a0 85 01 60 00 60 40", ErrMalformed},
		{"external part that is short", "87" + salt + "f6 40 f6 f6 a0 85 01 60 02 60 40", ErrMalformed},
		{"disposition 256", "87" + salt + "f6 40 f6 f6 a0 83 190100 60 00", ErrMalformed},
		{"key without encryption", "87" + salt + "f6 40 f6 f6 a0" + external("00", "4101"), ErrMalformed},
		{"encAlg of 17 bits", "87" + salt + "f6 40 f6 f6 a0" + external("1a00010000", "40"), ErrMalformed},
		{"content is a text", "87" + salt + "f6 40 f6 f6 a0 85 01 60 01 60 60", ErrMalformed},
	}
	for _, c := range cases {
		in := unhex(t, c.in)
		m, err := Unmarshal(in)
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
			continue
		}
		if err != nil {
			continue
		}
		if again, err := m.Marshal(); err != nil || !bytes.Equal(again, in) {
			t.Errorf("%s: encodes to %x, %v", c.name, again, err)
		}
	}
}

func TestTooLarge(t *testing.T) {
	m := message(Part{Body: SinglePart{Content: make([]byte, MaxMessage)}})
	if _, err := m.Marshal(); !errors.Is(err, ErrLimit) {
		t.Errorf("encoding: %v", err)
	}
	if _, err := Unmarshal(make([]byte, MaxMessage+1)); !errors.Is(err, ErrLimit) {
		t.Errorf("decoding: %v", err)
	}
	m = message(text("x"))
	m.Extensions.SetText(TextKey("long"), strings.Repeat("x", MaxExtensionValue))
	if _, err := m.Marshal(); !errors.Is(err, ErrLimit) {
		t.Errorf("an extension value over the limit is written: %v", err)
	}
	b, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Unmarshal(b); err != nil {
		t.Errorf("revision -08 sets no limit to extension values, so a somewhat longer one is read: %v", err)
	}
}

// TestMarshalRefuses: what cannot be sent is refused, and nothing panics.
func TestMarshalRefuses(t *testing.T) {
	bad := map[string]func(*Message){
		"no body":               func(m *Message) { m.Body = Part{} },
		"pointer body":          func(m *Message) { m.Body.Body = &NullPart{} },
		"unknown semantics":     func(m *Message) { m.Body.Body = MultiPart{Semantics: 3, Parts: []Part{text("a"), text("b")}} },
		"bad text":              func(m *Message) { m.Body.Language = "\xff" },
		"unknown hash":          func(m *Message) { m.InReplyTo = MessageID{9} },
		"extension not CBOR":    func(m *Message) { m.Extensions[Key{Number: 9}] = []byte{0xff} },
		"extension empty":       func(m *Message) { m.Extensions[Key{Number: 9}] = nil },
		"extension two items":   func(m *Message) { m.Extensions[Key{Number: 9}] = []byte{1, 2} },
		"extension name":        func(m *Message) { m.Extensions[Key{Name: "x", Number: 1}] = []byte{1} },
		"extension name UTF-8":  func(m *Message) { m.Extensions[TextKey("\xff")] = []byte{1} },
		"too many extensions":   func(m *Message) { fillExtensions(m, MaxExtensions+1) },
		"external without key":  func(m *Message) { m.Body.Body = ExternalPart{AAD: []byte{1}} },
		"multipart of one part": func(m *Message) { m.Body.Body = MultiPart{Parts: []Part{text("a")}} },
	}
	for name, change := range bad {
		m := message(text("x"))
		change(m)
		if b, err := m.Marshal(); err == nil {
			t.Errorf("%s: encoded to %x", name, b)
		}
	}
	m := message(text("x"))
	fillExtensions(m, MaxExtensions-2)
	if _, err := m.Marshal(); err != nil {
		t.Errorf("%d extensions: %v", MaxExtensions, err)
	}
	m.Extensions = nil
	if _, err := m.Marshal(); err != nil {
		t.Errorf("nil extensions: %v", err)
	}
}

func fillExtensions(m *Message, n int) {
	for i := range n {
		m.Extensions[Key{Number: int64(1000 + i)}] = []byte{0xf6}
	}
}

func TestReceive(t *testing.T) {
	env := Envelope{SenderURI: alice, RoomURI: room, AcceptedMS: 1_700_000_000_000, CreatedMS: 1_600_000_000_000}
	year := uint32(oneYear)
	cases := []struct {
		name   string
		change func(*Message, *Envelope)
		ok     bool
	}{
		{"plain", func(*Message, *Envelope) {}, true},
		{"no names", func(m *Message, _ *Envelope) { m.Extensions = nil }, true},
		{"other sender", func(m *Message, _ *Envelope) { m.Extensions.SetNames("mimi://a.example/u/mallory", room) }, false},
		{"other room", func(m *Message, _ *Envelope) { m.Extensions.SetNames(alice, room+"2") }, false},
		{"sender in other case", func(m *Message, _ *Envelope) { m.Extensions.SetNames("mimi://A.example/u/alice", room) }, false},
		{"relative year", func(m *Message, _ *Envelope) { m.Expires = &Expiration{true, year} }, true},
		{"relative, too long", func(m *Message, _ *Envelope) { m.Expires = &Expiration{true, year + 1} }, false},
		{"absolute, soon", func(m *Message, _ *Envelope) { m.Expires = &Expiration{false, 1_700_000_060} }, true},
		{"absolute, just past", func(m *Message, _ *Envelope) { m.Expires = &Expiration{false, 1_699_999_000} }, true},
		{"absolute, far past", func(m *Message, _ *Envelope) { m.Expires = &Expiration{false, 1_700_000_000 - year - 1} }, false},
		{"absolute, far future", func(m *Message, _ *Envelope) { m.Expires = &Expiration{false, 1_700_000_000 + year + 1} }, false},
		{"before the room", func(_ *Message, e *Envelope) { e.CreatedMS = e.AcceptedMS + 1 }, false},
		{"before the format", func(_ *Message, e *Envelope) { e.AcceptedMS, e.CreatedMS = 1_000_000_000_000, 0 }, false},
		{"in the future", func(_ *Message, e *Envelope) { e.LatestMS = e.AcceptedMS - 1 }, false},
		{"just now", func(_ *Message, e *Envelope) { e.LatestMS = e.AcceptedMS }, true},
		{"endless future", func(_ *Message, e *Envelope) { e.AcceptedMS = 1 << 60 }, false},
		{"long URI", func(m *Message, e *Envelope) {
			m.Extensions, e.SenderURI = nil, "mimi://a.example/u/"+strings.Repeat("x", MaxURI)
		}, false},
	}
	for _, c := range cases {
		m, e := message(text("hello")), env
		c.change(m, &e)
		b, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		r, err := Receive(b, e)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if err != nil {
			continue
		}
		id, _ := ID(alice, room, b, m.Salt)
		if r.ID != id || r.OldID != OldID(alice, room, b, m.Salt) || r.ID == r.OldID || !bytes.Equal(r.Octets, b) || r.Named != (m.Extensions != nil) {
			t.Errorf("%s: received %+v", c.name, r)
		}
	}
	if _, err := Receive([]byte{0x80}, env); !errors.Is(err, ErrMalformed) {
		t.Errorf("garbage: %v", err)
	}
}

func TestPurposeOfAMessage(t *testing.T) {
	id := MessageID{1, 7}
	cases := []struct {
		replaces    MessageID
		disposition Disposition
		body        Body
		want        Purpose
	}{
		{MessageID{}, Render, SinglePart{}, Post},
		{MessageID{}, Render, NullPart{}, Post},
		{MessageID{}, Reaction, SinglePart{}, React},
		{MessageID{}, Reaction, NullPart{}, Post},
		{MessageID{}, Unspecified, SinglePart{ContentType: "Application/MIMI-message-status"}, Status},
		{id, Render, SinglePart{}, Edit},
		{id, Render, NullPart{}, Delete},
		{id, Reaction, NullPart{}, Unlike},
		{id, Reaction, SinglePart{}, EditReaction},
		{id, Render, SinglePart{ContentType: TypeStatus}, Edit},
	}
	for _, c := range cases {
		m := &Message{Replaces: c.replaces, Body: Part{Disposition: c.disposition, Body: c.body}}
		if got := m.Purpose(); got != c.want {
			t.Errorf("%+v is a %v, want %v", c, got, c.want)
		}
	}
	if Purpose(200).String() != "purpose 200" || Semantics(9).String() != "semantics 9" || SingleUnit.String() != "singleUnit" {
		t.Error("numbers without a name")
	}
}

func TestChangedFields(t *testing.T) {
	first, next := message(text("a")), message(text("b"))
	if got := next.ChangedFields(first); got != nil {
		t.Errorf("changed %v", got)
	}
	next.TopicID, next.InReplyTo, next.Expires = []byte("t"), MessageID{1}, &Expiration{}
	if got, want := next.ChangedFields(first), []Field{FieldTopicID, FieldExpires, FieldInReplyTo}; !reflect.DeepEqual(got, want) {
		t.Errorf("changed %v, want %v", got, want)
	}
	first.Expires = &Expiration{Time: 1}
	if got := next.ChangedFields(first); len(got) != 3 {
		t.Errorf("changed %v", got)
	}
}

func TestASaltIsWhollyRandom(t *testing.T) {
	if _, err := NewSalt(bytes.NewReader(make([]byte, 15))); err == nil {
		t.Error("a short source gave a salt")
	}
	s, err := NewSalt(bytes.NewReader(bytes.Repeat([]byte{7}, 16)))
	if err != nil || s != Salt(bytes.Repeat([]byte{7}, 16)) {
		t.Errorf("salt %x, %v", s, err)
	}
}

func TestMessageIDText(t *testing.T) {
	id := MessageID{1, 2, 3}
	b, _ := id.MarshalText()
	var back MessageID
	if err := back.UnmarshalText(b); err != nil || back != id {
		t.Errorf("%v, %v", back, err)
	}
	for _, bad := range []string{"", "01", strings.Repeat("zz", 32)} {
		if err := back.UnmarshalText([]byte(bad)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// genPart draws a part whose subtree has at most levels levels.
func genPart(levels int) *rapid.Generator[Part] {
	return rapid.Custom(func(t *rapid.T) Part {
		p := Part{Disposition: Disposition(rapid.Uint8().Draw(t, "disposition")), Language: rapid.String().Draw(t, "language")}
		octets := rapid.SliceOfN(rapid.Byte(), 0, 40)
		kinds := 3
		if levels > 1 {
			kinds = 4
		}
		switch rapid.IntRange(0, kinds-1).Draw(t, "cardinality") {
		case 0:
			p.Body = NullPart{}
		case 1:
			p.Body = SinglePart{ContentType: rapid.String().Draw(t, "type"), Content: octets.Draw(t, "content")}
		case 2:
			e := ExternalPart{
				ContentType: rapid.String().Draw(t, "type"), URL: rapid.String().Draw(t, "url"),
				Expires: rapid.Uint32().Draw(t, "expires"), Size: rapid.Uint64().Draw(t, "size"),
				EncAlg: AEAD(rapid.Uint16().Draw(t, "encAlg")), HashAlg: HashAlgorithm(rapid.Uint8().Draw(t, "hashAlg")),
				ContentHash: octets.Draw(t, "hash"), Description: rapid.String().Draw(t, "description"), Filename: rapid.String().Draw(t, "filename"),
				Key: []byte{}, Nonce: []byte{}, AAD: []byte{},
			}
			if e.EncAlg != 0 {
				e.Key, e.Nonce, e.AAD = octets.Draw(t, "key"), octets.Draw(t, "nonce"), octets.Draw(t, "aad")
			}
			p.Body = e
		default:
			p.Body = MultiPart{
				Semantics: Semantics(rapid.IntRange(0, 2).Draw(t, "semantics")),
				Parts:     rapid.SliceOfN(genPart(levels-1), 2, 4).Draw(t, "parts"),
			}
		}
		return p
	})
}

func genMessage() *rapid.Generator[*Message] {
	return rapid.Custom(func(t *rapid.T) *Message {
		octets := rapid.SliceOfN(rapid.Byte(), 0, 40)
		id := func(name string) MessageID {
			if rapid.Bool().Draw(t, name+" there") {
				return idOf(rapid.SliceOfN(rapid.Byte(), 31, 31).Draw(t, name))
			}
			return MessageID{}
		}
		m := &Message{
			Salt:     Salt(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "salt")),
			Replaces: id("replaces"), InReplyTo: id("inReplyTo"), TopicID: octets.Draw(t, "topic"),
			Extensions: Extensions{}, Body: genPart(MaxPartLevels).Draw(t, "body"),
		}
		if rapid.Bool().Draw(t, "expires there") {
			m.Expires = &Expiration{Relative: rapid.Bool().Draw(t, "relative"), Time: rapid.Uint32().Draw(t, "time")}
		}
		for i, n := 0, rapid.IntRange(0, 5).Draw(t, "extensions"); i < n; i++ {
			key := Key{Number: rapid.Int64Range(-maxSafeInteger, maxSafeInteger).Draw(t, "key")}
			if rapid.Bool().Draw(t, "named") {
				key = TextKey(rapid.StringN(1, 60, MaxExtensionName).Draw(t, "name"))
			}
			m.Extensions.SetText(key, rapid.String().Draw(t, "value"))
		}
		return m
	})
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := genMessage().Draw(t, "message")
		b, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		back, err := Unmarshal(b)
		if err != nil {
			t.Fatalf("%v in %x", err, b)
		}
		if !reflect.DeepEqual(m, back) {
			t.Fatalf("decoded\n%+v, want\n%+v", back, m)
		}
	})
}

func FuzzContentCBOR(f *testing.F) {
	f.Add(unhex(f, "87"+smallSalt+"f6 40 f6 f6 a0"+smallBody))
	f.Add(unhex(f, "87"+smallSalt+"f6 40 82f500 f6 a2 06 a1 4100 fa47c35000 6178 c249010000000000000000"+smallBody))
	f.Add(unhex(f, "87"+smallSalt+"f6 40 f6 f6 a0 8f 06 62656e 02 60 60 1a00010000 1b0000000100000000 01 4101 4102 40 01 4103 60 60"))
	f.Add(unhex(f, strings.Repeat("81", 40)+"00"))
	f.Add(unhex(f, strings.Repeat("c1", 40)+"00"))
	f.Add(unhex(f, "84825820017ce54837404c3696e0c747b985cb172716d0ed0a3d249ca63ace7d82a096f402"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if m, err := Unmarshal(in); err == nil {
			again, err := m.encode()
			if err != nil || !bytes.Equal(again, in) {
				t.Fatalf("%x encodes to %x, %v", in, again, err)
			}
			m.Body.Select(Preference{MediaTypes: []MediaType{{Type: "*/*"}}})
			m.Purpose()
		}
		if s, err := UnmarshalStatus(in); err == nil {
			if again, err := s.Marshal(); err != nil || !bytes.Equal(again, in) {
				t.Fatalf("report %x encodes to %x, %v", in, again, err)
			}
		}
	})
}
