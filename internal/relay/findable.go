package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// What users want to be found by. The bridge knows of them what they tell its bot, and nobody checks it: an answer says so of an
// address of mail and of a telephone number.

// Fields that a user can be found by. Others are "oidc:" and "vcard:" with a name of the lists below.
const (
	fieldEmail = "email"
	fieldPhone = "phone"
	fieldName  = "name"
	fieldNick  = "nick"
)

// oidcClaims are the standard claims (OpenID Connect Core 1.0 §5.1) that can be a field; those that are fields of their own map to
// these.
var oidcClaims = map[string]string{"email": fieldEmail, "phone_number": fieldPhone, "name": fieldName, "nickname": fieldNick,
	"given_name": "oidc:given_name", "family_name": "oidc:family_name", "middle_name": "oidc:middle_name", "profile": "oidc:profile",
	"website": "oidc:website", "gender": "oidc:gender", "birthdate": "oidc:birthdate", "zoneinfo": "oidc:zoneinfo", "locale": "oidc:locale",
	"address": "oidc:address"}

// vcardFields are the properties that can be a field: all of the IANA registry that say something of a person (RFC 6350, 6474, 6715,
// 8605 and 9554), and none that are about the card. A value is the text of the property, a URI where that is one.
var vcardFields = func() map[string]string {
	fields := map[string]string{"EMAIL": fieldEmail, "TEL": fieldPhone, "FN": fieldName, "NICKNAME": fieldNick}
	for _, property := range []string{"N", "PHOTO", "BDAY", "ANNIVERSARY", "GENDER", "ADR", "IMPP", "LANG", "TZ", "GEO", "TITLE", "ROLE", "LOGO", "ORG",
		"MEMBER", "RELATED", "CATEGORIES", "NOTE", "SOUND", "UID", "URL", "KEY", "FBURL", "CALADRURI", "CALURI", "BIRTHPLACE", "DEATHPLACE", "DEATHDATE",
		"EXPERTISE", "HOBBY", "INTEREST", "ORG-DIRECTORY", "CONTACT-URI", "GRAMGENDER", "LANGUAGE", "PRONOUNS", "SOCIALPROFILE"} {
		fields[property] = "vcard:" + property
	}
	return fields
}()

const (
	// maxFields bounds the fields of a user, maxFieldValue the octets of one.
	maxFields, maxFieldValue = 20, 256
)

// fieldNamed is the field that people call by a name.
func fieldNamed(name string) (field string, ok bool) {
	kind, rest, qualified := strings.Cut(name, ":")
	switch {
	case !qualified && slices.Contains([]string{fieldEmail, fieldPhone, fieldName, fieldNick}, strings.ToLower(name)):
		return strings.ToLower(name), true
	case qualified && strings.EqualFold(kind, "oidc"):
		field, ok = oidcClaims[strings.ToLower(rest)]
	case qualified && strings.EqualFold(kind, "vcard"):
		field, ok = vcardFields[strings.ToUpper(rest)]
	}
	return field, ok
}

// fold is the form in which values of a field are compared.
func fold(field, value string) string {
	value = strings.ToLower(strings.Join(strings.Fields(value), " "))
	if field == fieldPhone {
		return strings.Map(func(c rune) rune {
			if strings.ContainsRune(" -./()", c) {
				return -1
			}
			return c
		}, value)
	}
	return value
}

// SetFindable lets a Matrix user be found by a field, beside its address.
func (r *Relay) SetFindable(ctx context.Context, mxid, name, value string) error {
	if err := r.maySearch(); err != nil {
		return err
	}
	field, ok := fieldNamed(name)
	value = strings.TrimSpace(value)
	switch {
	case !ok:
		return fmt.Errorf("there is no field %q: there are email, phone, name, nick, oidc:… (OpenID Connect claims) and vcard:… (properties)", name)
	case value == "" || len(value) > maxFieldValue || cleanName(value) != value:
		return fmt.Errorf("a value has 1 to %d letters", maxFieldValue)
	case field == fieldEmail && (strings.Count(value, "@") != 1 || strings.ContainsAny(value, " <>")):
		return errors.New("that is no address of mail")
	case field == fieldPhone && (!strings.HasPrefix(fold(field, value), "+") || strings.Trim(fold(field, value), "+0123456789") != "" || len(fold(field, value)) < 6):
		return errors.New("a telephone number is written with + and its country: +49 30 12345")
	}
	had, err := r.Store.Findables(ctx, mxid)
	if err != nil {
		return err
	}
	if len(had) >= maxFields && !slices.ContainsFunc(had, func(f store.Findable) bool { return f.Field == field }) {
		return fmt.Errorf("you have %d fields, which is the most", maxFields)
	}
	return r.Store.Tx(ctx, func(tx *store.Tx) error {
		if err := tx.SetSetting(ctx, mxid, settingSearchable, "yes"); err != nil {
			return err
		}
		return tx.PutFindable(ctx, store.Findable{MXID: mxid, Field: field, Value: value, Folded: fold(field, value), CreatedMS: r.Clock().UnixMilli()})
	})
}

// DropFindable takes a field of a Matrix user away.
func (r *Relay) DropFindable(ctx context.Context, mxid, name string) error {
	field, ok := fieldNamed(name)
	if !ok {
		return fmt.Errorf("there is no field %q", name)
	}
	return r.Store.Tx(ctx, func(tx *store.Tx) error {
		there, err := tx.DropFindable(ctx, mxid, field)
		if err == nil && !there {
			err = fmt.Errorf("you have no field %q", name)
		}
		return err
	})
}

// FindableBy lists what a Matrix user wants to be found by. on is false when it is found by its whole address only.
func (r *Relay) FindableBy(ctx context.Context, mxid string) (fields []store.Findable, on bool, err error) {
	fields, err = r.Store.Findables(ctx, mxid)
	return fields, r.searchable(ctx, mxid), err
}

func (r *Relay) searchable(ctx context.Context, mxid string) bool {
	v, err := r.Store.Setting(ctx, mxid, settingSearchable)
	return err == nil && v == "yes"
}

// condition is one element of a query, understood.
type condition struct {
	kind   wire.SearchIdentifierType
	field  string // of an exact search in a field, "" otherwise
	value  string // as it was asked for
	folded string
}

// conditionsOf understands the elements of a query; known is false when there is a search that is not offered.
func (r *Relay) conditionsOf(elements []wire.QueryElement) (list []condition, known bool) {
	for _, e := range elements {
		c := condition{kind: e.Type, value: e.Value}
		switch e.Type {
		case wire.SearchHandle:
		case wire.SearchNick:
			c.field = fieldNick
		case wire.SearchEmail:
			c.field = fieldEmail
		case wire.SearchPhone:
			c.field = fieldPhone
		case wire.SearchPartialName, wire.SearchWholeProfile:
		case wire.SearchOIDCStdClaim:
			if c.field = oidcClaims[e.Field]; e.Field == "preferred_username" {
				c.field = fieldNick
			}
			if c.field == "" {
				return nil, false
			}
		case wire.SearchVCardField:
			if c.field = vcardFields[strings.ToUpper(e.Field)]; c.field == "" {
				return nil, false
			}
		default:
			return nil, false
		}
		c.folded = fold(c.field, e.Value)
		list = append(list, c)
	}
	return list, true
}

// candidate is a user who may be found.
type candidate struct {
	mapping.Subject
	local  string
	fields map[string]store.Findable // nil for one who is found by the whole address only
}

// fits tells whether a user fulfils a condition.
func (c *candidate) fits(r *Relay, x condition) bool {
	switch {
	case x.kind == wire.SearchHandle:
		s, err := r.Naming.WebFingerSubject(r.resourceOf(x.value))
		return err == nil && s.MXID == c.MXID
	case c.fields == nil:
		return false
	case x.field == fieldNick && c.local == x.value:
		return true
	case x.field != "":
		f, ok := c.fields[x.field]
		return ok && f.Folded == x.folded
	case len(x.folded) < minPartial:
		return false
	}
	if strings.Contains(strings.ToLower(c.local), x.folded) {
		return true
	}
	for field, f := range c.fields {
		name := field == fieldName || field == fieldNick || field == "oidc:given_name" || field == "oidc:family_name"
		if (name || x.kind == wire.SearchWholeProfile && field != fieldEmail && field != fieldPhone) && strings.Contains(f.Folded, x.folded) {
			return true
		}
		if x.kind == wire.SearchWholeProfile && f.Folded == fold(field, x.value) {
			return true // mail and telephone are found whole only
		}
	}
	return false
}

// profile is what an answer says of a user: its name, and what was asked for exactly, which the other knows already.
func (c *candidate) profile(conditions []condition) wire.UserProfile {
	p := wire.UserProfile{StableURI: c.URI, Fields: []wire.ProfileField{{Source: wire.FieldOIDCStdClaim, Name: "preferred_username", Value: c.local}}}
	claim := func(name, value string) {
		p.Fields = append(p.Fields, wire.ProfileField{Source: wire.FieldOIDCStdClaim, Name: name, Value: value})
	}
	if f, ok := c.fields[fieldName]; ok {
		claim("name", f.Value)
	}
	if f, ok := c.fields[fieldNick]; ok {
		claim("nickname", f.Value)
	}
	for _, x := range conditions {
		f, ok := c.fields[x.field]
		kind, name, _ := strings.Cut(x.field, ":")
		switch {
		case !ok || x.field == fieldName || x.field == fieldNick:
		case x.field == fieldEmail:
			claim("email", f.Value)
			claim("email_verified", "false")
		case x.field == fieldPhone:
			claim("phone_number", f.Value)
			claim("phone_number_verified", "false")
		case kind == "vcard":
			p.Fields = append(p.Fields, wire.ProfileField{Source: wire.FieldVCard, Name: name, Value: f.Value})
		case kind == "oidc":
			claim(name, f.Value)
		}
	}
	return p
}

// findPage finds the users who fulfil all conditions, at most limit, in the order of their Matrix ids after one of them. next is
// where the next page begins, "" when there is none.
func (r *Relay) findPage(ctx context.Context, conditions []condition, after string, limit int) (found []candidate, next string, err error) {
	for looked := 0; looked < maxSearched; {
		list, err := r.candidates(ctx, conditions, after, searchedAtOnce)
		if err != nil || len(list) == 0 {
			return found, "", err
		}
		fields, err := r.Store.FindablesOf(ctx, settingSearchable, "yes", list)
		if err != nil {
			return nil, "", err
		}
		for _, mxid := range list {
			if looked++; looked > maxSearched {
				return found, after, nil
			}
			c, ok := r.candidate(mxid, fields)
			if ok = ok && !slices.ContainsFunc(conditions, func(x condition) bool { return !c.fits(r, x) }); ok {
				if len(found) == limit {
					return found, after, nil
				}
				found = append(found, c)
			}
			after = mxid
		}
	}
	return found, after, nil
}

// candidates lists users who may fulfil the conditions, by the most selective of them.
func (r *Relay) candidates(ctx context.Context, conditions []condition, after string, limit int) ([]string, error) {
	best := slices.MinFunc(conditions, func(a, b condition) int { return cmp.Compare(a.rank(), b.rank()) })
	switch {
	case best.kind == wire.SearchHandle:
		s, ok, err := r.Findable(ctx, r.resourceOf(best.value))
		if err != nil || !ok || s.MXID <= after {
			return nil, err
		}
		return []string{s.MXID}, nil
	case best.field != "":
		list, err := r.Store.FindableBy(ctx, best.field, best.folded, after, limit)
		if err != nil || best.field != fieldNick {
			return list, err
		}
		s, ok, err := r.Findable(ctx, r.resourceOf("@"+best.value+":"+r.Naming.Server))
		if err == nil && ok && s.MXID > after && !slices.Contains(list, s.MXID) && (len(list) < limit || s.MXID < list[len(list)-1]) {
			list = append(list, s.MXID)
			slices.Sort(list)
		}
		return list, err
	}
	return r.Store.ScopesWith(ctx, settingSearchable, "yes", after, limit)
}

// rank orders conditions, the most selective first.
func (x condition) rank() int {
	switch {
	case x.kind == wire.SearchHandle:
		return 0
	case x.field == fieldEmail || x.field == fieldPhone:
		return 1
	case x.field != "":
		return 2
	}
	return 3
}

// candidate is a user with what it wants to be found by, which all has for those who want that; ok is false for who does not
// take part.
func (r *Relay) candidate(mxid string, all map[string][]store.Findable) (c candidate, ok bool) {
	if !r.exported(mxid) {
		return c, false
	}
	var err error
	if c.Subject, err = r.Naming.Subject(mxid); err != nil {
		return c, false
	}
	if c.local, _, err = mapping.SplitMXID(mxid); err != nil {
		return c, false
	}
	fields, searchable := all[mxid]
	if !searchable {
		return c, true
	}
	c.fields = make(map[string]store.Findable, len(fields))
	for _, f := range fields {
		c.fields[f.Field] = f
	}
	return c, true
}
