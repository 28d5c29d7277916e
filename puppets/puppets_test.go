package puppets

import (
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

func TestPlanStock(t *testing.T) {
	for name, c := range map[string]struct {
		have StockState
		want StockPlan
	}{
		"nothing yet":                {StockState{}, StockPlan{5, true}},
		"full":                       {StockState{Ready: 5, LastResort: true}, StockPlan{}},
		"some claimed":               {StockState{Ready: 2, LastResort: true}, StockPlan{3, false}},
		"last resort was handed out": {StockState{Ready: 5, LastResort: true, LastResortUsed: true}, StockPlan{0, true}},
		"more than enough":           {StockState{Ready: 9, LastResort: true}, StockPlan{}},
	} {
		if got := PlanStock(c.have, 5); got != c.want {
			t.Errorf("%s: PlanStock = %+v, want %+v", name, got, c.want)
		}
	}
}

func TestDueLeaf(t *testing.T) {
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	leaves := []Leaf{{3, now.Add(-8 * day)}, {1, now.Add(-9 * day)}, {2, now.Add(-9 * day)}, {0, now.Add(-6 * day)}}
	if l, ok := DueLeaf(leaves, now, RenewEvery); !ok || l.Index != 1 {
		t.Errorf("due is %+v %v, want the oldest with the lowest index", l, ok)
	}
	if _, ok := DueLeaf(leaves[3:], now, RenewEvery); ok {
		t.Error("a leaf of six days is renewed")
	}
	if next := NextRenewal(leaves[3:], RenewEvery); !next.Equal(now.Add(day)) {
		t.Errorf("next renewal at %v", next)
	}
	if !NextRenewal(nil, RenewEvery).IsZero() {
		t.Error("no leaf has a renewal")
	}
}

func TestName(t *testing.T) {
	for _, c := range []struct {
		template, known string
		uri             wire.IdentifierURI
		want            string
	}{
		{"", "", "mimi://a.example/u/alice", "alice (a.example)"},
		{"", "Alice\u202e Liddell\n", "mimi://a.example/u/alice", "Alice Liddell (a.example)"},
		{"{name}", "", "mimi://A.example/u/J%C3%BCrgen", "Jürgen"},
		{"{name} · {domain}", "", "mimi://A.example/u/x/%FF", "%FF · a.example"},
		{"", "", "mimi://a.example/u/0d9a3c55-8d6c-4f5b-9a3e-000000000000", "0d9a3c55… (a.example)"},
		{"{name}", "\u202e", "mimi://a.example/u/bob", "bob"},
	} {
		if got := Name(c.template, c.known, c.uri); got != c.want {
			t.Errorf("Name(%q, %q, %q) = %q, want %q", c.template, c.known, c.uri, got, c.want)
		}
	}
}
