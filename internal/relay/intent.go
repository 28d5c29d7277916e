package relay

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/matrix-mimi/bridge/internal/store"
)

// Kinds of intents: wishes to change the group (docs/flow.md, T5).
const (
	intentAdd      = "add"      // a user to the participant list, with clients
	intentRemove   = "remove"   // a user from the list, with all its clients
	intentBan      = "ban"      // a user to role 1
	intentUnban    = "unban"    // a banned user from the list
	intentLeave    = "leave"    // a user of ours, by itself
	intentMetadata = "metadata" // name or topic
	intentRenew    = "renew"    // the keys of an own leaf
	intentCommit   = "commit"   // the proposals that wait
	intentRole     = "role"     // of a participant
	intentPolicy   = "policy"   // components of the policy
	intentRoles    = "roles"    // the definitions of roles
)

// intentData is what an intent carries beside actor and target.
type intentData struct {
	MXID     string   `json:"mxid,omitempty"`     // of the target, where it is a Matrix user or a ghost
	Event    string   `json:"event,omitempty"`    // the Matrix event that asked for it, for notices
	By       string   `json:"by,omitempty"`       // MXID of who asked
	Reason   string   `json:"reason,omitempty"`   // given by who asked
	Role     uint32   `json:"role,omitempty"`     // 0: the default
	Packages [][]byte `json:"packages,omitempty"` // KeyPackages that were claimed
	Name     *string  `json:"name,omitempty"`     // metadata
	Topic    *string  `json:"topic,omitempty"`    // metadata
	Avatar   *string  `json:"avatar,omitempty"`   // metadata: an https address
	Mood     *string  `json:"mood,omitempty"`     // metadata
	// TopicHTML is the topic with formatting, "" when it has none.
	TopicHTML string `json:"topic_html,omitempty"`
	// NotBefore is when metadata is changed or KeyPackages are claimed, in milliseconds since 1970: wishes of the same moment
	// go together.
	NotBefore int64 `json:"not_before,omitempty"`
	// Components are new data of components of the policy.
	Components map[uint16][]byte `json:"components,omitempty"`
	Request    []byte            `json:"request,omitempty"`  // the KeyMaterialRequest that is under way
	Claim      int64             `json:"claim,omitempty"`    // the row that it is in, when it asks for others, too
	Consent    bool              `json:"consent,omitempty"`  // consent was asked for
	Inactive   bool              `json:"inactive,omitempty"` // add without clients
	Epoch      uint64            `json:"epoch,omitempty"`    // in which proposals were made
}

func dataOf(i *store.Intent) (intentData, error) {
	var d intentData
	if i.Data == "" {
		return d, nil
	}
	if err := json.Unmarshal([]byte(i.Data), &d); err != nil {
		return d, fmt.Errorf("read intent %d: %w", i.Seq, err)
	}
	return d, nil
}

// wish stores an intent. A second one of the same kind for the same target takes the place of the first, unless that is
// under way already.
func (s *step) wish(kind, actor, target string, d intentData) *store.Intent {
	dedupe := kind + ":" + target
	for i := range s.room.intents {
		old := &s.room.intents[i]
		if old.Dedupe != dedupe {
			continue
		}
		if old.State == store.IntentOpen {
			s.wishAnew(old, actor, d)
		}
		if old.State != store.IntentStaged {
			return old
		}
		dedupe = fmt.Sprintf("%s:%s:%d", kind, target, s.room.head.NextSeq)
	}
	i := store.Intent{Room: s.room.head.ID, Seq: s.seq(), Kind: kind, Actor: actor, Target: target, Dedupe: dedupe,
		State: store.IntentOpen, Data: string(mustJSON(d)), CreatedMS: s.nowMS()}
	s.room.intents = append(s.room.intents, i)
	s.fx.addIntents = append(s.fx.addIntents, i)
	return &s.room.intents[len(s.room.intents)-1]
}

// wishAnew lets a wish about which nothing was done be what was wished last, and what was wished before besides. Those of most
// kinds say nothing but that they are, and stay.
func (s *step) wishAnew(old *store.Intent, actor string, d intentData) {
	had, err := dataOf(old)
	switch old.Kind {
	case intentMetadata:
		if err == nil {
			if d.Topic == nil {
				d.TopicHTML = had.TopicHTML
			}
			d.Name, d.Topic = firstOf(d.Name, had.Name), firstOf(d.Topic, had.Topic)
			d.Avatar, d.Mood = firstOf(d.Avatar, had.Avatar), firstOf(d.Mood, had.Mood)
			d.NotBefore = had.NotBefore
		}
		old.Actor = actor
	case intentRole:
		old.Actor = actor
	case intentPolicy:
		if err == nil {
			for id, data := range had.Components {
				if _, newer := d.Components[id]; !newer {
					d.Components[id] = data
				}
			}
		}
	default:
		return
	}
	s.setIntent(old, store.IntentOpen, "", d)
}

func firstOf(a, b *string) *string {
	if a != nil {
		return a
	}
	return b
}

// intent returns an intent by number.
func (s *step) intent(seq int64) *store.Intent {
	for i := range s.room.intents {
		if s.room.intents[i].Seq == seq {
			return &s.room.intents[i]
		}
	}
	return nil
}

// setIntent changes an intent, in memory and in the effects.
func (s *step) setIntent(i *store.Intent, state, reason string, d intentData) {
	i.State, i.Reason, i.Data = state, reason, string(mustJSON(d))
	s.putIntent(*i)
}

func (s *step) putIntent(i store.Intent) {
	for n := range s.fx.addIntents {
		if s.fx.addIntents[n].Seq == i.Seq {
			s.fx.addIntents[n] = i
			return
		}
	}
	if s.fx.setIntents == nil {
		s.fx.setIntents = map[int64]store.Intent{}
	}
	s.fx.setIntents[i.Seq] = i
}

// closeIntents ends intents: they are done, or given up.
func (s *step) closeIntents(seqs ...int64) {
	for _, seq := range seqs {
		s.room.intents = slices.DeleteFunc(s.room.intents, func(i store.Intent) bool { return i.Seq == seq })
		added := len(s.fx.addIntents)
		s.fx.addIntents = slices.DeleteFunc(s.fx.addIntents, func(i store.Intent) bool { return i.Seq == seq })
		if added == len(s.fx.addIntents) {
			s.fx.doneIntents = append(s.fx.doneIntents, seq)
		}
		delete(s.fx.setIntents, seq)
	}
}

// reopenIntents opens the intents that a commit covered: it lost (T8). Those that lost too often are given up.
func (s *step) reopenIntents(seqs []int64, tooOften int64) []store.Intent {
	var given []store.Intent
	for _, seq := range seqs {
		i := s.intent(seq)
		if i == nil {
			continue
		}
		i.State = store.IntentOpen
		i.Tries++
		if i.Tries >= tooOften {
			given = append(given, *i)
			s.closeIntents(seq)
			continue
		}
		s.putIntent(*i)
	}
	return given
}
