package stage

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"

	_ "github.com/lib/pq"  // the driver "postgres"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// Database opens the bridge's database for reading, also while the bridge runs.
func (b *Bridge) Database() (*sql.DB, error) {
	if b.Postgres != "" {
		return sql.Open("postgres", b.Postgres)
	}
	q := url.Values{"mode": {"ro"}, "_pragma": {"busy_timeout(5000)", "query_only(1)"}}
	return sql.Open("sqlite", "file:"+filepath.Join(b.Dir, "bridge.db")+"?"+q.Encode())
}

// Count is the number that a query returns.
func Count(ctx context.Context, db *sql.DB, query string) (n int64, err error) {
	if err = db.QueryRowContext(ctx, query).Scan(&n); err != nil {
		return 0, fmt.Errorf("%s: %w", query, err)
	}
	return n, nil
}

// Lines are the rows of a query, each as one text.
func Lines(ctx context.Context, db *sql.DB, query string) ([]string, error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", query, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var out []string
	for rows.Next() {
		cells := make([]any, len(columns))
		into := make([]any, len(columns))
		for i := range cells {
			into[i] = &cells[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		line := ""
		for i, c := range cells {
			if i > 0 {
				line += " "
			}
			if raw, ok := c.([]byte); ok {
				line += fmt.Sprintf("%x", raw)
			} else {
				line += fmt.Sprint(c)
			}
		}
		out = append(out, line)
	}
	return out, rows.Err()
}
