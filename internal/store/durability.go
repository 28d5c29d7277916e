package store

import (
	"context"
	"fmt"
)

// checkDurability asks the database whether a COMMIT is on disk when it returns. ErrUnsafe if not.
func (db *DB) checkDurability(ctx context.Context) error {
	if db.dialect == sqliteDialect {
		var level int64
		err := db.Tx(ctx, func(tx *Tx) (err error) {
			level, err = value[int64](ctx, &tx.Reader, `PRAGMA synchronous`)
			return err
		})
		if err != nil {
			return fmt.Errorf("asking whether commits are synced: %w", err)
		}
		if level < 2 {
			return fmt.Errorf("PRAGMA synchronous is %d, FULL (2) is needed: %w", level, ErrUnsafe)
		}
		return nil
	}
	for _, s := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
		got, err := value[string](ctx, &db.Reader, `SELECT current_setting($1)`, s)
		if err != nil {
			return fmt.Errorf("asking whether commits are synced: %w", err)
		}
		if got == "off" {
			return fmt.Errorf("%s is off in PostgreSQL: %w", s, ErrUnsafe)
		}
	}
	return nil
}
