package content

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// IndexedPart is a part with its place in the message.
type IndexedPart struct {
	// Index counts parts depth first from the body, which is 0; multiparts count too
	// (draft-ietf-mimi-content-08, Message Bodies).
	Index int
	// Parent is the index of the MultiPart around the part, -1 for the body.
	Parent int
	// Level is 1 for the body.
	Level int
	Part  *Part
}

// Flatten lists the part and all parts inside it in the order of their indices: list[i].Index == i.
// The Part pointers point into the tree.
func (p *Part) Flatten() []IndexedPart {
	var list []IndexedPart
	var walk func(p *Part, parent, level int)
	walk = func(p *Part, parent, level int) {
		index := len(list)
		list = append(list, IndexedPart{Index: index, Parent: parent, Level: level, Part: p})
		if multi, ok := p.Body.(MultiPart); ok {
			for i := range multi.Parts {
				walk(&multi.Parts[i], index, level+1)
			}
		}
	}
	walk(p, -1, 1)
	return list
}

const cidHost = "@local.invalid"

// CID returns the URI by which one part refers to another one of the same message:
// cid:<index>@local.invalid (draft-ietf-mimi-content-08, Message Bodies; RFC 2392).
func CID(index int) string { return "cid:" + strconv.Itoa(index) + cidHost }

// ParseCID reads the URI that CID makes. The scheme may be in any case; the number has no leading zeros.
func ParseCID(uri string) (index int, ok bool) {
	if len(uri) < 4 || !strings.EqualFold(uri[:4], "cid:") {
		return 0, false
	}
	number, ok := strings.CutSuffix(uri[4:], cidHost)
	if !ok || number == "" || number[0] < '0' || number[0] > '9' || number[0] == '0' && number != "0" {
		return 0, false
	}
	index, err := strconv.Atoi(number)
	return index, err == nil && index < MaxParts
}

// CIDReferences returns the part indices that a text refers to, in rising order, each once. It looks for the
// URIs themselves and needs no parser for the text's format.
func CIDReferences(text []byte) []int {
	var out []int
	lower := bytes.ToLower(text)
	for rest := lower; ; {
		i := bytes.Index(rest, []byte("cid:"))
		if i < 0 {
			break
		}
		rest = rest[i:]
		end := bytes.Index(rest[:min(len(rest), 4+4+len(cidHost))], []byte(cidHost))
		if end >= 0 {
			if index, ok := ParseCID(string(rest[:end+len(cidHost)])); ok {
				out = append(out, index)
			}
		}
		rest = rest[4:]
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Preference says which media types and languages a receiver processes, best first.
type Preference struct {
	// MediaTypes are patterns for [MediaType.Matches]; a type that matches none is not understood.
	MediaTypes []MediaType
	// Languages are RFC 5646 tags; empty means that all are equal. A language that is not listed is still understood.
	Languages []string
}

// Selected is one part that a receiver processes.
type Selected struct {
	IndexedPart
	// References are the indices of the single or external parts, all of them selected too, that the text of
	// this part refers to by cid URIs and that are to be processed with it.
	References []int
}

// Select evaluates the tree of parts for a receiver (draft-ietf-mimi-content-08, Message Bodies): of a chooseOne
// it takes the best part, of a processAll all that are understood, of a singleUnit all or none; what a part
// that came before refers to is left out of the list, as it is processed there. The rest is in index order.
// The result is empty when nothing is understood or the body is a NullPart.
//
// Of two alternatives the one in the better language wins, then the one with the better media types,
// then the one with more parts, then the earlier.
func (p *Part) Select(prefer Preference) []Selected {
	s := selector{prefer: prefer, list: p.Flatten()}
	s.children = make([][]int, len(s.list))
	for _, part := range s.list[1:] {
		s.children[part.Parent] = append(s.children[part.Parent], part.Index)
	}
	picked, _ := s.pick(0)
	return s.order(picked.leaves)
}

type selector struct {
	prefer   Preference
	list     []IndexedPart
	children [][]int
}

// choice is a way to process a subtree: its leaves, and how well they suit, lower being better.
type choice struct {
	leaves   []int
	language int
	media    []int // ranks of the leaves in rising order
}

func (c choice) better(o choice) bool {
	if c.language != o.language {
		return c.language < o.language
	}
	for i := range min(len(c.media), len(o.media)) {
		if c.media[i] != o.media[i] {
			return c.media[i] < o.media[i]
		}
	}
	return len(c.media) > len(o.media) // the one that gives more
}

// pick returns how to process the part with the given index, and false when it is not understood.
func (s *selector) pick(index int) (choice, bool) {
	part := s.list[index].Part
	switch body := part.Body.(type) {
	case SinglePart:
		return s.leaf(index, body.ContentType)
	case ExternalPart:
		return s.leaf(index, body.ContentType)
	case MultiPart:
		if body.Semantics == ChooseOne {
			return s.best(index)
		}
		return s.all(index, body.Semantics == SingleUnit)
	default:
		return choice{language: s.language(part)}, true
	}
}

func (s *selector) leaf(index int, contentType string) (choice, bool) {
	rank := s.mediaRank(contentType)
	if rank < 0 {
		return choice{}, false
	}
	return choice{leaves: []int{index}, language: s.language(s.list[index].Part), media: []int{rank}}, true
}

func (s *selector) best(index int) (choice, bool) {
	var best choice
	found := false
	for _, child := range s.children[index] {
		if c, ok := s.pick(child); ok && (!found || c.better(best)) {
			best, found = c, true
		}
	}
	return best, found
}

func (s *selector) all(index int, strict bool) (choice, bool) {
	var sum choice
	found := false
	for _, child := range s.children[index] {
		c, ok := s.pick(child)
		if !ok {
			if strict {
				return choice{}, false
			}
			continue
		}
		sum.leaves = append(sum.leaves, c.leaves...)
		sum.media = append(sum.media, c.media...)
		if !found || c.language < sum.language {
			sum.language = c.language
		}
		found = true
	}
	slices.Sort(sum.media)
	return sum, found
}

func (s *selector) mediaRank(contentType string) int {
	t, err := ParseMediaType(contentType)
	if err != nil {
		return -1
	}
	return slices.IndexFunc(s.prefer.MediaTypes, t.Matches)
}

// language ranks a part's languages: the best listed one, then parts that name none, then all others.
func (s *selector) language(p *Part) int {
	none := len(s.prefer.Languages)
	if p.Language == "" || none == 0 {
		return none
	}
	best := none + 1
	for tag := range strings.SplitSeq(p.Language, ",") {
		tag = strings.TrimSpace(tag)
		for i, want := range s.prefer.Languages {
			// A listed "en" takes "en-GB" (RFC 4647 §3.3.1, basic filtering).
			if len(tag) >= len(want) && strings.EqualFold(tag[:len(want)], want) && (len(tag) == len(want) || tag[len(want)] == '-') {
				best = min(best, i)
			}
		}
	}
	return best
}

// order drops the leaves that an earlier leaf refers to and notes the references.
func (s *selector) order(leaves []int) []Selected {
	chosen := make(map[int]bool, len(leaves))
	for _, i := range leaves {
		chosen[i] = true
	}
	done := make(map[int]bool)
	var out []Selected
	for _, i := range leaves {
		if done[i] {
			continue
		}
		done[i] = true
		sel := Selected{IndexedPart: s.list[i]}
		if single, ok := s.list[i].Part.Body.(SinglePart); ok && canRefer(single.ContentType) {
			for _, ref := range CIDReferences(single.Content) {
				if chosen[ref] && ref != i {
					sel.References = append(sel.References, ref)
					done[ref] = true
				}
			}
		}
		out = append(out, sel)
	}
	return out
}

// canRefer tells whether a media type is one whose text may hold cid URIs.
func canRefer(contentType string) bool {
	t, err := ParseMediaType(contentType)
	if err != nil {
		return false
	}
	switch t.Type {
	case "text/html", "text/markdown", "text/vcard", "text/calendar":
		return true
	}
	return false
}
