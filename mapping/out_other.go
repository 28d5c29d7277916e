package mapping

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/matrixside/html"
	"github.com/matrix-mimi/bridge/mimiside/content"
)

// parseGeo reads a geo: URI (RFC 5870) as far as latitude and longitude.
func parseGeo(uri string) (lat, lon float64, ok bool) {
	rest, ok := strings.CutPrefix(uri, "geo:")
	if !ok || len(uri) > 200 {
		return 0, 0, false
	}
	rest, _, _ = strings.Cut(rest, ";")
	parts := strings.Split(rest, ",")
	if len(parts) < 2 || len(parts) > 3 {
		return 0, 0, false
	}
	lat, err1 := strconv.ParseFloat(parts[0], 64)
	lon, err2 := strconv.ParseFloat(parts[1], 64)
	return lat, lon, err1 == nil && err2 == nil && lat >= -90 && lat <= 90 && lon >= -180 && lon <= 180
}

// geoMarkdown is a place as Markdown: a name that leads to the coordinates, and
// a map for those whose program knows no geo: addresses.
func geoMarkdown(name, uri string) string {
	lat, lon, ok := parseGeo(uri)
	if !ok {
		return html.EscapeMarkdown(name)
	}
	place := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	return fmt.Sprintf("[%s](geo:%s,%s) (<https://www.openstreetmap.org/?mlat=%s&mlon=%s#map=16/%s/%s>)",
		html.EscapeMarkdown(name), place(lat), place(lon), place(lat), place(lon), place(lat), place(lon))
}

func (o *out) location(m event.Message) content.Part {
	name := html.Line(m.Body, 300)
	if name == "" {
		name = "Location"
	}
	if _, _, ok := parseGeo(m.GeoURI); !ok {
		return single(content.Render, content.TypePlain, name)
	}
	setPrivate(o.ext, keyMsgType, event.MsgLocation)
	setPrivate(o.ext, keyGeo, m.GeoURI)
	return single(content.Render, content.TypeMarkdownMIMI, geoMarkdown(name, m.GeoURI))
}

// beacon maps the start of a live location; its updates are not bridged.
func (o *out) beacon() Outgoing {
	if !o.ev.Content.Bool("live") {
		return Outgoing{Drop: DropSilent}
	}
	what := "shares a live location on Matrix"
	if d := html.Line(o.ev.Content.Str("description"), 200); d != "" {
		what += ": " + d
	}
	return o.note(what)
}

// extensible reads text of an extensible event, stable or not (MSC1767).
func extensible(o event.Object) string {
	for _, key := range []string{"m.text", "org.matrix.msc1767.text", "body"} {
		if s := o.Str(key); s != "" {
			return s
		}
		for _, r := range o.Objects(key, 8) {
			if t := r.Str("mimetype"); t == "" || t == "text/plain" {
				if s := r.Str("body"); s != "" {
					return s
				}
			}
		}
	}
	return ""
}

// call maps the start of a call: a session that MIMI users can join by its
// address, where the operator has such a place, else a text.
func (o *out) call() Outgoing {
	if o.room.CallURL == "" {
		return o.note("started a call on Matrix")
	}
	address := strings.ReplaceAll(o.room.CallURL, "{room}", url.PathEscape(string(o.ev.Room)))
	part := content.ExternalPart{URL: address, Description: html.Name(o.room.People.Name(o.ev.Sender)) + " started a call on Matrix"}
	msg := &content.Message{Body: content.Part{Disposition: content.Session, Body: part}}
	msg.Expires = o.expires(nil)
	return Outgoing{Message: msg, Memory: Memory{Kind: KindText}}
}

// maxAnswers bounds the answers of a poll (MSC3381).
const maxAnswers = 20

// pollStart maps a poll to a text with numbered answers (MSC3381).
func (o *out) pollStart() Outgoing {
	poll := o.ev.Content.Obj("m.poll")
	if poll == nil {
		poll = o.ev.Content.Obj(event.TypePollStartUnstable)
	}
	question := html.Line(extensible(poll.Obj("question")), 1000)
	if question == "" {
		return Outgoing{Drop: DropEmpty}
	}
	var md strings.Builder
	md.WriteString("**" + html.EscapeMarkdown(question) + "**\n\n")
	for i, a := range poll.Objects("answers", maxAnswers) {
		fmt.Fprintf(&md, "%d. %s\n", i+1, html.EscapeMarkdown(html.Line(extensible(a), 300)))
	}
	md.WriteString("\n(a poll on Matrix: votes are counted there)")
	return o.textResult(md.String())
}

// pollEnd maps the end of a poll to the text that comes with it.
func (o *out) pollEnd() Outgoing {
	text := html.Line(extensible(o.ev.Content), 1000)
	if text == "" {
		text = "The poll has ended."
	}
	res := o.textResult(html.EscapeMarkdown(text))
	if k, ok := o.room.Links.ByEvent(event.ParseRelation(o.ev.Content).References); ok {
		res.Message.InReplyTo = o.room.newest(k)
	}
	return res
}

func (o *out) textResult(md string) Outgoing {
	msg := &content.Message{Body: single(content.Render, content.TypeMarkdownMIMI, md)}
	msg.Expires = o.expires(nil)
	res := Outgoing{Message: msg, Memory: Memory{Kind: KindText}}
	o.relate(event.ParseRelation(o.ev.Content), msg, &res.Memory)
	return res
}
