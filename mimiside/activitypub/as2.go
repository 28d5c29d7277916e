package activitypub

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/matrix-mimi/bridge/mimiside/content"
)

// ErrContent: application data that is no message. It is permanent.
var ErrContent = errors.New("content refused")

// Bounds on content.
const (
	maxAttachments = 32
	maxTags        = 100
	maxContent     = 1 << 20 // octets of the JSON
	maxPreview     = 64 << 10
	maxBlurhash    = 256
)

// Content is what one MLS application message says: one activity of the profile of MLS over ActivityPub ("Application data").
type Content struct {
	// Type is Create, Update, Delete, Like, EmojiReact, Announce, Undo, Read, Listen, View, Acknowledge, Failure, Leave or
	// IntransitiveActivity; another one that is not known is kept as it is.
	Type string
	ID   string
	// Actor is who the content says it is from; it must be the MLS sender.
	Actor string
	// Item is the object in full (Create, Update); for all others Ref names it.
	Item *Item
	Ref  string
	// RefType is the type of an embedded object that is only referred to, such as the Like in an Undo; RefObject is what that one
	// is about, RefContent what it says.
	RefType, RefObject, RefContent string
	// Text is the content of the activity itself: the emoji of a Like, the comment of an Announce.
	Text string
}

// Item is a content object: Note, Article, Image, Audio, Video, and Document for other files.
type Item struct {
	Type         string
	ID           string
	AttributedTo string
	MediaType    string
	// Content is the HTML of a Note or Article, sanitised; Data the octets of a file.
	Content   string
	Data      []byte
	Name      string
	Summary   string
	InReplyTo string
	URL       string // of an external file, https only
	// External is an encrypted file at its URL, nil for others. It is an extension of ours (mimi:external) for files that are too large for a message.
	External    *content.ExternalPart
	Attachments []Item
	Tags        []Tag
	// Preview is a smaller picture of a file, nil for none, PreviewType its media type; Blurhash is a few characters from which a blurred one is made.
	Preview               []byte
	PreviewType, Blurhash string
}

// Tag is a mention or a hashtag.
type Tag struct{ Type, Href, Name string }

// itemTypes are the objects of the profile; the last three are extensions seen in use.
var itemTypes = []string{"Note", "Article", "Image", "Audio", "Video", "Document", "Page", "Question"}

// isText tells whether an object holds HTML.
func (i *Item) isText() bool {
	return i.Type == "Note" || i.Type == "Article" || i.Type == "Page" || i.Type == "Question"
}

// ParseContent reads application data of an ActivityPub group: UTF-8 JSON. HTML in the result is sanitised. sender is the identity
// of the MLS sender: an actor or an attributedTo inside that is another one is refused, because a member could otherwise
// speak as another.
func ParseContent(data []byte, sender string) (*Content, error) {
	if len(data) > maxContent {
		return nil, fmt.Errorf("%w: %d octets", ErrContent, len(data))
	}
	o, err := ParseObject(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrContent, err)
	}
	if t := o.typeAmong(itemTypes...); t != "" && o.typeAmong(activityTypes...) == "" {
		o = Object{"type": "Create", "id": o.Str("id"), "actor": sender, "object": o} // a bare Note is a Create
	}
	c := &Content{ID: o.Str("id", "@id"), Actor: firstOf(ref(o["actor"]), sender), Text: o.Str("content")}
	if ts := o.types(); len(ts) > 0 {
		c.Type = firstOf(o.typeAmong(activityTypes...), ts[0])
	}
	if c.Type == "" {
		return nil, fmt.Errorf("%w: no type", ErrContent)
	}
	if c.Actor != sender {
		return nil, fmt.Errorf("%w: it speaks as another than its sender", ErrContent)
	}
	return c, c.object(o["object"], sender)
}

func (c *Content) object(v any, sender string) error {
	if list, ok := v.([]any); ok && len(list) > 0 {
		v = list[0]
	}
	node, embedded := v.(Object)
	c.Ref = ref(v)
	switch c.Type {
	case "Create", "Update":
		if !embedded {
			return fmt.Errorf("%w: %s without an object", ErrContent, c.Type)
		}
		item, err := parseItem(node, 0)
		if err != nil {
			return err
		}
		if item.AttributedTo != "" && item.AttributedTo != sender {
			return fmt.Errorf("%w: its object is another's than its sender's", ErrContent)
		}
		if isWeb(item.ID) || item.ID == "" {
			return fmt.Errorf("%w: id of the object is missing or an address of the web", ErrContent)
		}
		c.Item, c.Ref = item, item.ID
	case "IntransitiveActivity", "Leave":
	default:
		if embedded {
			c.RefType = firstOf(node.typeAmong(activityTypes...), node.typeAmong(itemTypes...))
			c.RefObject, c.RefContent = ref(node["object"]), node.Str("content")
		}
		if c.Ref == "" && c.RefObject == "" && c.known() {
			return fmt.Errorf("%w: %s of nothing", ErrContent, c.Type)
		}
	}
	return nil
}

// known tells whether the activity has a meaning here.
func (c *Content) known() bool {
	switch c.Type {
	case "Create", "Update", "Delete", "Like", "EmojiReact", "Announce", "Undo", "Read", "Listen", "View", "Acknowledge", "Failure", "Leave", "IntransitiveActivity":
		return true
	}
	return false
}

// isWeb tells whether an id is an address of the web, which ids inside MLS must not be.
func isWeb(id string) bool {
	l := strings.ToLower(id)
	return strings.HasPrefix(l, "http://") || strings.HasPrefix(l, "https://")
}

func parseItem(o Object, level int) (*Item, error) {
	i := &Item{Type: o.typeAmong(itemTypes...), ID: o.Str("id", "@id"), AttributedTo: ref(o["attributedTo"]), MediaType: o.Str("mediaType"),
		Name: o.Str("name"), Summary: plain(o.Str("summary")), InReplyTo: ref(o["inReplyTo"])}
	if i.Type == "" {
		if ts := o.types(); len(ts) > 0 {
			i.Type = ts[0] // an Update of something else, such as the group's name
		}
	}
	if len(i.ID) > maxURL || len(i.InReplyTo) > maxURL {
		return nil, fmt.Errorf("%w: id of the object is too long", ErrContent)
	}
	if err := i.content(o); err != nil {
		return nil, err
	}
	i.preview(o, level)
	for _, v := range asList(o["attachment"], maxAttachments) {
		node, ok := v.(Object)
		if !ok || level > 0 || node.typeAmong("Link") != "" {
			continue
		}
		a, err := parseItem(node, level+1)
		if err != nil {
			return nil, err
		}
		i.Attachments = append(i.Attachments, *a)
	}
	for _, v := range asList(o["tag"], maxTags) {
		if node, ok := v.(Object); ok {
			i.Tags = append(i.Tags, Tag{node.typeAmong("Mention", "Hashtag"), node.Str("href"), node.Str("name")})
		}
	}
	return i, nil
}

// preview reads the pictures that stand for a file until it is there; those that make no sense are left out.
func (i *Item) preview(o Object, level int) {
	const inside = 2 // attachments have level 1, and previews none of their own
	if i.isText() || level >= inside {
		return
	}
	if hash := o.Str("blurhash"); len(hash) <= maxBlurhash {
		i.Blurhash = hash
	}
	node, ok := o["preview"].(Object)
	if !ok {
		return
	}
	p, err := parseItem(node, inside)
	if err == nil && len(p.Data) <= maxPreview && strings.HasPrefix(p.MediaType, "image/") {
		i.Preview, i.PreviewType = p.Data, p.MediaType
	}
}

// content reads HTML, base64 octets, or the address that some clients use for both.
func (i *Item) content(o Object) error {
	text := o.Str("content")
	address := ref(o["url"])
	if address == "" {
		address = o.Str("href")
	}
	switch {
	case i.isText() && (i.MediaType == "" || strings.HasPrefix(i.MediaType, "text/html")):
		i.Content = Sanitize(text)
		return nil
	case i.isText() && strings.HasPrefix(i.MediaType, "text/"):
		i.Content = htmlOfPlain(text)
		return nil
	case i.isText():
		return nil
	case text != "" && i.MediaType != "":
		b, err := DecodeBase64(text)
		if err != nil {
			return fmt.Errorf("%w: attachment is not base64", ErrContent)
		}
		i.Data = b
	case strings.HasPrefix(address, "data:"):
		return i.dataURL(address)
	case strings.HasPrefix(address, "https://") && validURL(address):
		i.URL = address
		i.External = readExternal(o, i)
	}
	return nil
}

// dataURL reads data:<type>;base64,<octets> (RFC 2397).
func (i *Item) dataURL(s string) error {
	head, text, ok := strings.Cut(strings.TrimPrefix(s, "data:"), ",")
	t, b64 := strings.CutSuffix(head, ";base64")
	if !ok || !b64 {
		return fmt.Errorf("%w: data: URL that is not base64", ErrContent)
	}
	b, err := DecodeBase64(text)
	if err != nil {
		return fmt.Errorf("%w: data: URL that is not base64", ErrContent)
	}
	i.Data = b
	if i.MediaType == "" {
		i.MediaType, _, _ = strings.Cut(t, ";")
	}
	return nil
}

func asList(v any, max int) []any {
	list, ok := v.([]any)
	if !ok {
		if v == nil {
			return nil
		}
		return []any{v}
	}
	if len(list) > max {
		return list[:max]
	}
	return list
}

// Marshal writes the content as application data. Create and Update carry actor and attributedTo, which the profile does not ask for and
// which clients in use demand. dataURLs adds a data: URL beside the content of small files, for clients that read nothing else.
func (c *Content) Marshal(dataURLs bool) []byte {
	o := Object{"@context": activityStreams, "type": c.Type, "id": c.ID, "actor": c.Actor}
	if c.Text != "" {
		o["content"] = c.Text
	}
	switch {
	case c.Item != nil:
		o["object"] = c.Item.object(dataURLs)
	case c.RefType == "Like":
		o["object"] = Object{"type": "Like", "id": c.Ref, "actor": c.Actor, "object": c.RefObject}
		if c.RefContent != "" {
			o["object"].(Object)["content"] = c.RefContent
		}
	case c.Ref != "":
		o["object"] = c.Ref
	}
	return o.Marshal()
}

// maxDataURL is the largest file that is written a second time as a data: URL.
const maxDataURL = 256 << 10

func (i *Item) object(dataURLs bool) Object {
	o := Object{"type": i.Type}
	for name, value := range map[string]string{
		"id": i.ID, "attributedTo": i.AttributedTo, "mediaType": i.MediaType, "name": i.Name, "summary": i.Summary, "inReplyTo": i.InReplyTo, "url": i.URL,
	} {
		if value != "" {
			o[name] = value
		}
	}
	switch {
	case i.isText():
		o["content"] = i.Content
	case i.Data != nil:
		text := base64.StdEncoding.EncodeToString(i.Data)
		o["encoding"], o["content"] = "base64", text
		if dataURLs && len(i.Data) <= maxDataURL {
			o["url"] = "data:" + i.MediaType + ";base64," + text
		}
	}
	if i.Blurhash != "" {
		o["blurhash"] = i.Blurhash
	}
	if i.Preview != nil {
		o["preview"] = (&Item{Type: "Image", MediaType: i.PreviewType, Data: i.Preview}).object(false)
	}
	if i.External != nil {
		writeExternal(o, i.External)
	}
	if len(i.Attachments) > 0 {
		list := []any{}
		for n := range i.Attachments {
			list = append(list, i.Attachments[n].object(dataURLs))
		}
		o["attachment"] = list
	}
	if len(i.Tags) > 0 {
		list := []any{}
		for _, t := range i.Tags {
			list = append(list, Object{"type": t.Type, "href": t.Href, "name": t.Name})
		}
		o["tag"] = list
	}
	return o
}
