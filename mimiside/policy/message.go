package policy

import (
	"reflect"
	"strings"

	"github.com/matrix-mimi/bridge/mimiside/content"
)

// About is what MessageNeeds must know besides the message itself.
type About struct {
	// OwnTarget: the message in replaces is by the same sender.
	OwnTarget bool
	// First is the first version of the message in replaces, nil when it is not known.
	First *content.Message
	// TopicKnown: an earlier message has the same topic id.
	TopicKnown bool
	// Link and Preview: the body has a link, or a preview of one, as found by whoever parses it.
	Link, Preview bool
}

// MessageNeeds lists the capabilities that the sender of a message needs (draft-ietf-mimi-room-policy-03,
// Message Capabilities and Asset Capabilities). The hub sees none of this but that there is a message: it
// enforces canSendMessage, and receiving clients all the rest. Status reports follow the status notification
// policy instead and need nothing here. possible is false for what nobody may do: to edit what another one
// wrote, or to change more of a message than its body and topic.
func MessageNeeds(m *content.Message, about About) (out []Capability, possible bool) {
	own := func(mine, others Capability) {
		if about.OwnTarget {
			out = append(out, mine)
		} else {
			out = append(out, others)
		}
	}
	switch m.Purpose() {
	case content.Status:
		return nil, true
	case content.Post:
		out = append(out, CanSendMessage)
		if !m.InReplyTo.IsZero() {
			out = append(out, CanReplyToMessage)
		}
		if len(m.TopicID) > 0 {
			if about.TopicKnown {
				out = append(out, CanReplyInTopic)
			} else {
				out = append(out, CanStartTopic)
			}
		}
	case content.React:
		return append(out, CanReactToMessage), true
	case content.EditReaction:
		return append(out, CanEditReaction), about.OwnTarget
	case content.Unlike:
		own(CanDeleteOwnReaction, CanDeleteOtherReaction)
		return out, true
	case content.Delete:
		own(CanDeleteOwnMessage, CanDeleteOtherMessage)
		return out, true
	case content.Edit:
		if !about.OwnTarget {
			return editsOther(m, about)
		}
		out = append(out, CanEditOwnMessage)
		if about.First == nil {
			break
		}
		for _, f := range m.ChangedFields(about.First) {
			if f != content.FieldTopicID {
				return nil, false
			}
			out = append(out, CanEditOwnTopic)
		}
	}
	if about.Link {
		out = append(out, CanSendLink)
	}
	if about.Preview {
		out = append(out, CanSendLinkPreview)
	}
	return append(out, uploads(m)...), true
}

// editsOther decides an edit of somebody else's message: its topic may change, with the right to that, and
// nothing else.
func editsOther(m *content.Message, about About) ([]Capability, bool) {
	if about.First == nil || !reflect.DeepEqual(m.Body, about.First.Body) {
		return nil, false
	}
	if changed := m.ChangedFields(about.First); len(changed) != 1 || changed[0] != content.FieldTopicID {
		return nil, false
	}
	return []Capability{CanEditOtherTopic}, true
}

// uploads lists the capabilities for the external parts that are files, each once.
func uploads(m *content.Message) []Capability {
	var out []Capability
	seen := make(map[Capability]bool)
	for _, p := range m.Body.Flatten() {
		file, ok := p.Part.Body.(content.ExternalPart)
		if !ok || p.Part.Disposition == content.Session || p.Part.Disposition == content.Preview {
			continue
		}
		if c := uploadCapability(file.ContentType, p.Part.Disposition); !seen[c] {
			seen[c] = true
			out = append(out, c)
		}
	}
	return out
}

func uploadCapability(contentType string, disposition content.Disposition) Capability {
	kind, _, _ := strings.Cut(strings.ToLower(contentType), "/")
	switch {
	case disposition == content.Attachment:
		return CanUploadAttachment
	case kind == "image":
		return CanUploadImage
	case kind == "audio":
		return CanUploadAudio
	case kind == "video":
		return CanUploadVideo
	}
	return CanUploadAttachment
}
