package dialogue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// Play says how a script is played.
type Play struct {
	// Wait is how long one line may wait for what it wants to see; 0 means 30 s.
	Wait time.Duration
	// Tell gets every line as it is played. May be nil.
	Tell func(Told)
}

// Told is one line that was played.
type Told struct {
	Step  Step
	Since time.Duration // from the beginning of the script to the end of the line
	Took  time.Duration // of the line itself
	// Delay is set for a line that saw a message: from the moment it was sent
	// to the moment it arrived.
	Delay time.Duration
	Err   error
}

// Result is what the audit counted.
type Result struct {
	Messages int // that were said
	Seen     int // that lines have seen
	Doubled  int // that somebody got more than once
	Lost     int // that were said and that no line has seen
	Delays   []time.Duration
}

// said is a message that a person has sent.
type said struct {
	by    *Person
	label string
	text  string // its plain text
	html  string // its formatted text, if any
	at    time.Time
	event id.EventID
	order int
	seen  bool // by a line of somebody else
}

type runner struct {
	world  *World
	wait   time.Duration
	spoken []*Person // who "everybody" is
	said   []*said
	never  []func() error
	// learned are parts of texts by their names in braces.
	learned map[string]string
	delay   time.Duration
	result  Result
}

// Run plays a script on a stage that fits it.
func Run(ctx context.Context, w *World, s *Script, play Play) (Result, error) {
	r := &runner{world: w, wait: play.Wait, learned: map[string]string{}}
	if r.wait == 0 {
		r.wait = 30 * time.Second
	}
	began := time.Now()
	for _, name := range s.people() {
		if _, err := w.Person(ctx, name); err != nil {
			return r.result, fmt.Errorf("%s: bring %s on stage: %w", s.Name, name, err)
		}
	}
	for _, step := range s.Steps {
		lineBegan := time.Now()
		r.delay = 0
		err := r.step(ctx, step)
		if play.Tell != nil {
			play.Tell(Told{Step: step, Since: time.Since(began), Took: time.Since(lineBegan), Delay: r.delay, Err: err})
		}
		if err != nil {
			return r.result, fmt.Errorf("%s:%d: %s: %s\n%w%s", s.Name, step.Line, step.Actor, step.Text, err, w.logTails(3000))
		}
	}
	if err := errors.Join(r.audit(), r.auditLogs()); err != nil {
		return r.result, fmt.Errorf("%s: audit: %w%s", s.Name, err, w.logTails(3000))
	}
	return r.result, nil
}

func (r *runner) step(ctx context.Context, step Step) error {
	ctx, cancel := context.WithTimeout(ctx, r.wait)
	defer cancel()
	if step.verb.machine != nil {
		_, name, _ := strings.Cut(step.Actor, " ")
		return step.verb.machine(ctx, r, name, step.args)
	}
	if step.Actor != "everybody" {
		p, err := r.world.Person(ctx, step.Actor)
		if err != nil {
			return err
		}
		if !slices.Contains(r.spoken, p) {
			r.spoken = append(r.spoken, p)
		}
		return step.say(ctx, r, p)
	}
	var errs []error
	for _, p := range r.spoken {
		errs = append(errs, step.say(ctx, r, p))
	}
	return errors.Join(errs...)
}

// say lets one person say the line.
func (s Step) say(ctx context.Context, r *runner, p *Person) error {
	if s.in != "" {
		room, err := p.room(s.in)
		if err != nil {
			return err
		}
		p.call(s.in, room)
	}
	args := slices.Clone(s.args)
	for i := range args {
		for name, text := range r.learned {
			args[i] = strings.ReplaceAll(args[i], name, text)
		}
	}
	return s.verb.person(ctx, r, p, args)
}

// audit looks at everything that everybody saw: nothing that was said may stand
// twice in anybody's room, and messages of one person stand in the order in
// which they were said.
func (r *runner) audit() error {
	var errs []error
	for _, never := range r.never {
		errs = append(errs, never())
	}
	times := map[[2]string]int{} // room and text → how often it was said
	for _, s := range r.said {
		if !s.seen {
			r.result.Lost++
		}
		times[[2]string{s.label, s.text}]++
	}
	for _, p := range r.world.people {
		p.mu.Lock()
		for label, room := range p.labels {
			if v := p.rooms[room]; v != nil {
				errs = append(errs, r.auditRoom(p, label, v, times)...)
				errs = append(errs, p.auditSecrets(v)...)
			}
		}
		p.mu.Unlock()
	}
	return errors.Join(errs...)
}

func (r *runner) auditRoom(p *Person, label string, v *RoomView, times map[[2]string]int) []error {
	var errs []error
	count, last := map[string]int{}, map[id.UserID]int{}
	for _, e := range v.Timeline {
		text, ok := messageText(e.Event)
		if !ok {
			continue
		}
		count[text]++
		want, known := times[[2]string{label, text}]
		if known && count[text] > want {
			r.result.Doubled++
			errs = append(errs, fmt.Errorf("%s sees %q %d times in %q, it was said %d times", p.Name, text, count[text], label, want))
		}
		if !known || want > 1 {
			continue // nothing to say about the order of what was said twice
		}
		for _, s := range r.said {
			if s.label == label && s.text == text {
				if s.order < last[e.Sender] {
					errs = append(errs, fmt.Errorf("%s sees %q too late in %q: something that was said after it stands before it", p.Name, text, label))
				}
				last[e.Sender] = s.order
			}
		}
	}
	return errs
}

// messageText returns the text of a message that is no edit.
func messageText(e *event.Event) (string, bool) {
	if e.Type != event.EventMessage {
		return "", false
	}
	m, ok := e.Content.Parsed.(*event.MessageEventContent)
	if !ok || (m.RelatesTo != nil && m.RelatesTo.Type == event.RelReplace) {
		return "", false
	}
	return m.Body, true
}
