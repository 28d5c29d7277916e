package tlspl

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

func TestLengthBoundaries(t *testing.T) {
	cases := map[int][]byte{0: {0}, 63: {63}, 64: {0x40, 64}, 16383: {0x7f, 0xff}, 16384: {0x80, 0, 0x40, 0}, MaxVector: {0xbf, 0xff, 0xff, 0xff}}
	for n, want := range cases {
		if got := AppendLength(nil, n); !bytes.Equal(got, want) {
			t.Errorf("AppendLength(%d) = %x, want %x", n, got, want)
		}
		r := NewReader(want)
		if got := r.Length(); got != n || r.Close() != nil {
			t.Errorf("Length(%x) = %d, %v, want %d", want, got, r.Err(), n)
		}
	}
}

func TestRefusals(t *testing.T) {
	cases := []struct {
		name string
		in   []byte
		read func(*Reader)
		want error
	}{
		{"two-byte length below 64", []byte{0x40, 63}, func(r *Reader) { r.Length() }, ErrNotMinimal},
		{"four-byte length below 16384", []byte{0x80, 0, 0x3f, 0xff}, func(r *Reader) { r.Length() }, ErrNotMinimal},
		{"eight-byte length", []byte{0xc0, 0, 0, 0, 0, 0, 0, 1}, func(r *Reader) { r.Length() }, ErrTooLong},
		{"vector longer than input", []byte{5, 1}, func(r *Reader) { r.Opaque(-1) }, ErrTruncated},
		{"vector longer than limit", []byte{2, 1, 2}, func(r *Reader) { r.Opaque(1) }, ErrTooLong},
		{"presence byte 2", []byte{2}, func(r *Reader) { r.Optional() }, ErrOptional},
		{"trailing byte", []byte{1, 2}, func(r *Reader) { r.Uint8() }, ErrTrailing},
		{"truncated integer", []byte{1}, func(r *Reader) { r.Uint32() }, ErrTruncated},
		{"error inside a vector reaches the parent", []byte{1, 9}, func(r *Reader) { r.Vector(-1).Uint16() }, ErrTruncated},
	}
	for _, c := range cases {
		r := NewReader(c.in)
		c.read(r)
		if err := r.Close(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.SliceOfN(rapid.Byte(), 0, 20000).Draw(t, "v")
		u := rapid.Uint64().Draw(t, "u")
		there := rapid.Bool().Draw(t, "there")
		b := AppendUint64([]byte("x"), u)
		b = AppendVector(b, func(b []byte) []byte { return AppendOpaque(append(b, 7), v) })
		b = AppendOptional(b, there, func(b []byte) []byte { return AppendUint16(b, 3) })
		r := NewReader(b)
		r.Bytes(1)
		if got := r.Uint64(); got != u {
			t.Fatalf("integer %d, want %d", got, u)
		}
		sub := r.Vector(-1)
		if sub.Uint8() != 7 || !bytes.Equal(sub.Opaque(-1), v) || sub.More() {
			t.Fatal("vector differs")
		}
		if r.Optional() != there || there && r.Uint16() != 3 {
			t.Fatal("optional differs")
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzTLSPLVarint(f *testing.F) {
	for _, s := range [][]byte{{0}, {0x40, 64}, {0x80, 0, 0x40, 0}, {0x40, 1}, {0xff}} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader(in)
		n := r.Length()
		if r.Err() == nil && !bytes.Equal(AppendLength(nil, n), in[:r.Offset()]) {
			t.Fatalf("length %d was accepted from %x", n, in)
		}
	})
}

func FuzzTLSPLVector(f *testing.F) {
	f.Add([]byte{3, 1, 2, 3})
	f.Add([]byte{0x80, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader(in)
		v := r.Opaque(-1)
		if len(v) > len(in) {
			t.Fatal("read more than the input holds")
		}
		if r.Err() == nil && !bytes.Equal(AppendOpaque(nil, v), in[:r.Offset()]) {
			t.Fatal("decode then encode differs")
		}
	})
}
