package activitypub

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/peer"
)

// ServerConfig says what a Server is made of. Site, Backend and Gate are needed.
type ServerConfig struct {
	Site    Site
	Backend Backend
	Gate    *Gate
	Version string
	// MaxInbox bounds the body of an activity in octets: 1 MiB when 0.
	MaxInbox int64
	// BodyTimeout is for a whole body to arrive: 30 s when 0.
	BodyTimeout time.Duration
	// PackagesPerRequester and PackagesPerUser bound KeyPackage claims an hour: 10 a (requester, user) and 200 a user when 0.
	PackagesPerRequester, PackagesPerUser int
	Now                                   func() time.Time // nil: time.Now
	// Observe is told of each request that was refused; nil: nobody is.
	Observe func(Event)
}

// Event is a request that was refused.
type Event struct {
	Path, Signer string
	Status       int
	Err          error
}

// Server is the HTTP face. It takes paths under /ap/ and the well-known addresses; WebFinger is apart, since the MIMI listener
// has a place of its own for it.
type Server struct {
	cfg                 ServerConfig
	perPair, perPackage *peer.Quota
}

// NewServer makes a Server.
func NewServer(c ServerConfig) (*Server, error) {
	if c.Site.Host() == "" || c.Backend == nil || c.Gate == nil {
		return nil, errors.New("make the ActivityPub server: site, backend and gate are needed")
	}
	if c.MaxInbox == 0 {
		c.MaxInbox = 1 << 20
	}
	if c.BodyTimeout == 0 {
		c.BodyTimeout = 30 * time.Second
	}
	if c.PackagesPerRequester == 0 {
		c.PackagesPerRequester = 10
	}
	if c.PackagesPerUser == 0 {
		c.PackagesPerUser = 200
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Observe == nil {
		c.Observe = func(Event) {}
	}
	return &Server{cfg: c, perPair: peer.NewQuota(c.PackagesPerRequester, time.Hour, maxGateKeys, c.Now),
		perPackage: peer.NewQuota(c.PackagesPerUser, time.Hour, maxGateKeys, c.Now)}, nil
}

// status is the HTTP status of an error.
func status(err error) int {
	switch {
	case err == nil:
		return http.StatusOK
	case errors.Is(err, ErrNoSignature), errors.Is(err, ErrSignature), errors.Is(err, ErrUnknownKey), errors.Is(err, ErrSigner):
		return http.StatusUnauthorized // also where the key cannot be had now: other servers say so, and try again after it
	case errors.Is(err, ErrBlocked), errors.Is(err, ErrForbidden):
		return http.StatusForbidden
	case errors.Is(err, ErrTooMany):
		return http.StatusTooManyRequests
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrName):
		return http.StatusNotFound
	case errors.Is(err, ErrDeleted):
		return http.StatusGone
	case errors.Is(err, ErrEpoch):
		return http.StatusConflict
	case errors.Is(err, ErrActivity), errors.Is(err, ErrJSON), errors.Is(err, ErrMLSObject):
		return http.StatusBadRequest
	case errors.Is(err, errMedia):
		return http.StatusUnsupportedMediaType
	case errors.Is(err, errSize):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, errMethod):
		return http.StatusMethodNotAllowed
	}
	return http.StatusServiceUnavailable
}

var (
	errMedia  = errors.New("the content type is not that of an activity")
	errSize   = errors.New("the activity is too large")
	errMethod = errors.New("the method is not offered here")
)

// ServeHTTP answers everything but WebFinger.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	signer, err := s.route(w, r)
	if err == nil {
		return
	}
	code := status(err)
	s.cfg.Observe(Event{Path: r.URL.Path, Signer: signer, Status: code, Err: err})
	if code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable || errors.Is(err, ErrUnknownKey) {
		w.Header().Set("Retry-After", "60")
	}
	if code == http.StatusUnauthorized {
		w.Header().Set("Accept-Signature", `sig1=("@method" "@target-uri" "content-digest");created;keyid`)
	}
	http.Error(w, http.StatusText(code), code)
}

func (s *Server) route(w http.ResponseWriter, r *http.Request) (signer string, err error) {
	path := r.URL.EscapedPath()
	get := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case path == "/.well-known/nodeinfo" && get:
		return "", s.write(w, s.cfg.Site.NodeInfoLinks(), "application/json")
	case path == pathNodeInfo && get:
		n, err := s.cfg.Backend.Users(r.Context())
		if err != nil {
			return "", err
		}
		return "", s.write(w, s.cfg.Site.NodeInfo(s.cfg.Version, n), `application/json; profile="http://nodeinfo.diaspora.software/ns/schema/2.1#"`)
	case path == pathInbox, path == pathInstance+"/inbox":
		return s.inbox(w, r, "")
	case path == pathInstance && get:
		pem, err := s.cfg.Backend.Instance(r.Context())
		if err != nil {
			return "", err
		}
		return "", s.write(w, s.cfg.Site.InstanceActor(pem), TypeActivity)
	case path == pathInstance+"/outbox" && get:
		return "", s.write(w, EmptyCollection(s.cfg.Site.Instance()+"/outbox", 0), TypeActivity)
	}
	for at, kind := range map[string]func(http.ResponseWriter, *http.Request, string, string) (string, error){
		pathUsers: s.user, pathRooms: s.room, pathObjects: s.object, pathThreads: s.conversation,
	} {
		if rest, ok := strings.CutPrefix(path, at); ok {
			name, sub, _ := strings.Cut(rest, "/")
			if name == "" || strings.ContainsAny(name, "%") {
				return "", ErrNotFound
			}
			if !get && sub != "inbox" {
				return "", errMethod
			}
			return kind(w, r, name, sub)
		}
	}
	return "", ErrNotFound
}

// write answers with a document.
func (s *Server) write(w http.ResponseWriter, o Object, contentType string) error {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Vary", "Accept, Signature, Signature-Input, Authorization")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(o.Marshal()) // whoever asked has gone
	return nil
}

// WebFinger answers queries about users and rooms (RFC 7033).
func (s *Server) WebFinger(w http.ResponseWriter, r *http.Request) {
	resources := r.URL.Query()["resource"]
	w.Header().Set("Access-Control-Allow-Origin", "*")
	if len(resources) != 1 || resources[0] == "" || len(resources[0]) > maxURL {
		http.Error(w, "resource is needed", http.StatusBadRequest)
		return
	}
	f, err := s.cfg.Backend.Find(r.Context(), resources[0])
	if err != nil {
		code := status(err)
		http.Error(w, http.StatusText(code), code)
		return
	}
	_ = s.write(w, f.JRD(), typeJRD)
}

// signer returns who signed a GET, "" when nobody did.
func (s *Server) signer(r *http.Request, body []byte) (string, error) {
	actor, err := s.cfg.Gate.Signer(r.Context(), IncomingRequest(r, s.cfg.Site.Scheme(), s.cfg.Site.Host(), body))
	if errors.Is(err, ErrNoSignature) && r.Method != http.MethodPost {
		return "", nil
	}
	return actor, err
}

// wantsHTML tells whether a person's browser asks.
func wantsHTML(r *http.Request) bool {
	accept := r.Header.Get("Accept")
	return strings.Contains(accept, "text/html") && !strings.Contains(accept, "activity+json") && !strings.Contains(accept, "ld+json")
}

// inbox takes an activity: type and size, then who signed it, then what it is, and it is stored before it is answered for.
func (s *Server) inbox(w http.ResponseWriter, r *http.Request, owner string) (signer string, err error) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return "", errMethod
	}
	t, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || !isActivityType(t, params) {
		return "", errMedia
	}
	if r.ContentLength > s.cfg.MaxInbox {
		return "", errSize
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.cfg.BodyTimeout)) // the recorder of tests has none
	body, err := io.ReadAll(io.LimitReader(r.Body, s.cfg.MaxInbox+1))
	if err != nil {
		return "", errSize
	}
	if int64(len(body)) > s.cfg.MaxInbox {
		return "", errSize
	}
	received, err := ReadActivity(body)
	if err != nil {
		return "", err
	}
	signer, err = s.signer(r, body)
	if errors.Is(err, ErrBlocked) {
		signer, err = s.leaver(r, received, body)
	}
	if err != nil {
		if goneActor(received, err) {
			w.WriteHeader(http.StatusAccepted) // whoever is gone needs no deleting
			return "", nil
		}
		return signer, err
	}
	d, err := s.check(r, received, signer)
	if err != nil {
		return signer, err
	}
	d.Inbox, d.Body = owner, body
	if _, err := s.cfg.Backend.Receive(r.Context(), *d); err != nil {
		return signer, err
	}
	w.WriteHeader(http.StatusAccepted)
	return signer, nil
}

// leaver is who signed a handshake that is taken from a blocked server, because without it ours do not get out of its group (docs/activitypub.md, "Blocked
// origins"). ErrBlocked for everything else; other errors are temporary.
func (s *Server) leaver(r *http.Request, received *ReceivedActivity, body []byte) (string, error) {
	groups := received.HandshakesOf()
	for _, group := range groups {
		if leaving, err := s.cfg.Backend.Leaving(r.Context(), group); err != nil {
			return "", err
		} else if !leaving {
			return "", ErrBlocked
		}
	}
	if len(groups) == 0 {
		return "", ErrBlocked
	}
	return s.cfg.Gate.Despite().Signer(r.Context(), IncomingRequest(r, s.cfg.Site.Scheme(), s.cfg.Site.Host(), body))
}

// addsToChannel tells whether a channel passes on that somebody was added to it: who is new does not know the channel yet (AIM §5.2.3). What it leads
// to is what a Welcome leads to, whoever sent it.
func addsToChannel(inner *ReceivedActivity, channel string) bool {
	return inner.Type() == "Add" && ref(inner.raw["target"]) == channel+"/followers"
}

// goneActor tells that an actor deletes itself and its key is gone already: servers send that to everybody they know.
func goneActor(r *ReceivedActivity, err error) bool {
	return (r.Type() == "Delete" || r.Type() == "Update") && errors.Is(err, ErrGone) && ref(r.raw["object"]) == r.Actor()
}

// check makes a received activity one that may be acted on, with the MLS bytes in it.
func (s *Server) check(r *http.Request, received *ReceivedActivity, signer string) (*Delivered, error) {
	hosts, err := s.cfg.Backend.HostsGroup(r.Context(), signer)
	if err != nil {
		return nil, err
	}
	a, err := received.Check(signer, hosts)
	if err == nil {
		err = a.fetchObject(r.Context(), s.cfg.Gate, hosts)
	}
	if err != nil {
		return nil, err
	}
	d := &Delivered{Activity: a}
	carrier := a
	if a.Type == "Announce" && a.Object != nil && a.Object.typeAmong(activityTypes...) != "" {
		inner := &ReceivedActivity{raw: a.Object}
		if !hosts && !addsToChannel(inner, signer) {
			return nil, ErrForbidden // nothing vouches for what is inside
		}
		if inner.Type() == "" || !validURL(inner.Actor()) {
			return nil, ErrActivity
		}
		if d.Forwarded, err = inner.CheckForwarded(); err != nil {
			return nil, err
		}
		carrier = d.Forwarded
	}
	if carrier.Object != nil && (carrier.Type == "Create" || carrier.Type == "Update") && IsMLSObject(carrier.Object) {
		if d.MLS, err = ParseMLSObject(carrier.Object); err != nil {
			return nil, err
		}
	} else if carrier.Object != nil && carrier.Type == "Create" {
		d.MLS, _ = MLSCarrier(carrier.Object) // AIM: a Note to one of our channels; a Note in the clear has none
	}
	return d, nil
}
