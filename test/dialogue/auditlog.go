package dialogue

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// minTold is how long a text must be, in bytes, for its place in a log to be no accident.
const minTold = 10

// auditLogs reads what every bridge wrote to its log, at the most talkative level that scripts use: nothing that anybody said
// and no secret may stand there.
func (r *runner) auditLogs() error {
	var errs []error
	for _, domain := range r.world.order {
		b := r.world.bridges[domain]
		log, err := os.ReadFile(b.logFile())
		if err != nil {
			errs = append(errs, fmt.Errorf("read the log of %s: %w", domain, err))
			continue
		}
		secrets, err := b.secrets()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, s := range r.said {
			if len(s.text) >= minTold && strings.Contains(s.text, " ") {
				secrets["what "+s.by.Name+" said"] = append(secrets["what "+s.by.Name+" said"], s.text)
			}
		}
		errs = append(errs, leaks(domain, log, secrets))
	}
	return errors.Join(errs...)
}

// leaks names what stands in a log and should not. It does not repeat secrets.
func leaks(domain string, log []byte, secrets map[string][]string) error {
	var errs []error
	for what, texts := range secrets {
		for _, text := range texts {
			if i := bytes.Index(log, []byte(text)); i >= 0 {
				errs = append(errs, fmt.Errorf("the log of %s holds %s, in line %d", domain, what, 1+bytes.Count(log[:i], []byte("\n"))))
			}
		}
	}
	return errors.Join(errs...)
}

var tokenLine = regexp.MustCompile(`(?m)^[ah]s_token: (\S{10,})$`)

// secrets lists what a bridge knows and must not tell, by what it is.
func (b *Bridge) secrets() (map[string][]string, error) {
	out := map[string][]string{}
	for what, name := range map[string]string{"a token of the registration": "registration.yaml", "the sealing key": "sealing.key", "the key of its certificate": "key.pem"} {
		text, err := os.ReadFile(filepath.Join(b.dir, name))
		if err != nil {
			return nil, fmt.Errorf("read what must not stand in the log of %s: %w", b.plan.Domain, err)
		}
		if name == "registration.yaml" {
			for _, m := range tokenLine.FindAllStringSubmatch(string(text), -1) {
				out[what] = append(out[what], m[1])
			}
			if len(out[what]) != 2 {
				return nil, fmt.Errorf("the registration of %s has %d tokens", b.plan.Domain, len(out[what]))
			}
			continue
		}
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); len(line) > 30 && !strings.HasPrefix(line, "-----") && !strings.HasPrefix(line, "#") {
				out[what] = append(out[what], line)
			}
		}
	}
	return out, nil
}
