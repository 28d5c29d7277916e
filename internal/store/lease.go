package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/lib/pq"
)

// LeaseLife and the times that belong to it: a lease ends 20 s after its last renewal by
// the database's clock, is renewed each 5 s, and its holder trusts it for 15 s from the moment it
// asked, by its own monotonic clock.
const (
	LeaseLife  = 20 * time.Second
	LeaseRenew = 5 * time.Second
	LeaseTrust = 15 * time.Second
)

// RenewShards keeps the leases that an owner has, notes that it is alive, and moves its holding
// towards an even share among the living: it takes free shards if it has too few and gives some back
// if it has too many. It returns the shards held. Call it each LeaseRenew.
func (tx *Tx) RenewShards(ctx context.Context, owner string) ([]Shard, error) {
	life := LeaseLife.Milliseconds()
	if _, err := tx.exec(ctx, `INSERT INTO process (owner, until_ms) VALUES ($1, {now} + $2) ON CONFLICT (owner) DO UPDATE SET until_ms = excluded.until_ms`, owner, life); err != nil {
		return nil, fmt.Errorf("saying that this process is alive: %w", err)
	}
	if _, err := tx.exec(ctx, `DELETE FROM process WHERE until_ms <= {now}`); err != nil {
		return nil, err
	}
	alive, err := value[int64](ctx, &tx.Reader, `SELECT COUNT(*) FROM process`)
	if err != nil {
		return nil, err
	}
	held, err := column[Shard](ctx, &tx.Reader, `UPDATE shard_lease SET until_ms = {now} + $2 WHERE owner = $1 AND until_ms > {now} RETURNING shard`, owner, life)
	if err != nil {
		return nil, fmt.Errorf("renewing the shards: %w", err)
	}
	share := int((Shards + alive - 1) / alive)
	switch {
	case len(held) > share:
		give := held[share:]
		held = held[:share]
		for _, s := range give {
			if _, err := tx.exec(ctx, `DELETE FROM shard_lease WHERE shard = $1 AND owner = $2`, s, owner); err != nil {
				return nil, err
			}
		}
	case len(held) < share:
		more, err := tx.takeShards(ctx, owner, held, share-len(held))
		if err != nil {
			return nil, err
		}
		held = append(held, more...)
	}
	return held, nil
}

func (tx *Tx) takeShards(ctx context.Context, owner string, held []Shard, n int) ([]Shard, error) {
	taken, err := column[Shard](ctx, &tx.Reader, `SELECT shard FROM shard_lease WHERE until_ms > {now}`)
	if err != nil {
		return nil, err
	}
	busy := make([]bool, Shards)
	for _, s := range append(taken, held...) {
		busy[s] = true
	}
	var want []Shard
	for s := range Shards {
		if !busy[s] && len(want) < n {
			want = append(want, Shard(s))
		}
	}
	token := rand.Int64()
	var got []Shard
	err = chunks(tx.db, want, 3, func(part []Shard) error {
		args := make([]any, 0, len(part)*3)
		for _, s := range part {
			args = append(args, s, owner, token)
		}
		rows := valuesPlus(len(part), 3, "{now} + "+fmt.Sprint(LeaseLife.Milliseconds()))
		part, err := column[Shard](ctx, &tx.Reader, `INSERT INTO shard_lease (shard, owner, token, until_ms) VALUES `+rows+
			` ON CONFLICT (shard) DO UPDATE SET owner = excluded.owner, token = excluded.token, until_ms = excluded.until_ms
			WHERE shard_lease.until_ms <= {now} RETURNING shard`, args...)
		got = append(got, part...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("taking shards: %w", err)
	}
	return got, nil
}

// ReleaseShards gives everything back that an owner holds: the end of a process.
func (tx *Tx) ReleaseShards(ctx context.Context, owner string) error {
	if _, err := tx.exec(ctx, `DELETE FROM shard_lease WHERE owner = $1`, owner); err != nil {
		return err
	}
	_, err := tx.exec(ctx, `DELETE FROM process WHERE owner = $1`, owner)
	return err
}

// applicationName begins the name under which connections appear in pg_stat_activity; the life of the process follows.
const applicationName = "mimi-bridge"

// Life names this run of the process, for the owners of leases: an owner that ends with it is known to be gone when the
// installation starts anew. "" when nothing would know it again (no marker file).
func (db *DB) Life() string {
	if db.mark.path == "" {
		return ""
	}
	return db.life
}

// named puts the life into the application name, unless the operator chose another.
func (db *DB) named(dsn string) (string, error) {
	c, err := pq.NewConfig(dsn)
	if err != nil || db.migrating || c.ApplicationName != applicationName {
		return dsn, err
	}
	return withParameter(dsn, "application_name", applicationName+"/"+db.life)
}

// endLives ends the leases of the process that this one follows, which was killed or could not give them back. That it is
// gone is certain: its lock on the marker file (SQLite: on the database) is ours now. With PostgreSQL the marker file may be
// a copy, and the other process alive, and its last statements may still run: so it must have held the very same lock, and
// its connections must be gone. Otherwise, and where the operator named the connections, the leases end by themselves. A
// lane stays marked as one whose sender ended without a word.
func (db *DB) endLives(ctx context.Context, had map[string]string) error {
	if db.dialect == sqliteDialect {
		return db.endLeases(ctx, "")
	}
	life, place := had["life"+db.mark.suffix()], had["place"+db.mark.suffix()]
	if db.mark.path == "" || life == "" || place == "" || place != db.mark.place {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, LeaseRenew)
	defer cancel()
	for {
		gone, err := value[int64](ctx, &db.Reader, `SELECT CASE WHEN SUM(CASE WHEN application_name = $1 THEN 1 ELSE 0 END) = 0
			AND SUM(CASE WHEN application_name = $2 THEN 1 ELSE 0 END) > 0 THEN 1 ELSE 0 END FROM pg_stat_activity`,
			applicationName+"/"+life, applicationName+"/"+db.life)
		if err == nil && gone == 1 {
			return db.endLeases(ctx, life)
		}
		select {
		case <-ctx.Done():
			db.cfg.Log.Info().Err(err).Msg("connections of the process that ran before are still there: its leases end by themselves")
			return nil
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// endLeases ends the leases of one life, "" for all.
func (db *DB) endLeases(ctx context.Context, life string) error {
	err := db.Tx(ctx, func(tx *Tx) error {
		for _, query := range []string{`DELETE FROM shard_lease WHERE owner LIKE $1`, `DELETE FROM process WHERE owner LIKE $1`,
			`UPDATE lane SET until_ms = 0, ` + notGivenBack + ` WHERE owner <> '' AND owner LIKE $1`} {
			if _, err := tx.exec(ctx, query, "%"+life+"%"); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("ending the leases of a process that is gone: %w", err)
	}
	return nil
}
