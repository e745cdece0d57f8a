package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/provisioning"
)

// benchImport imports rows into a fresh, vacuumed database, the same file again, and some more, and then
// copies what came of the first import into a table with the same indexes.
func benchImport(ctx context.Context, out io.Writer, pool *pgxpool.Pool, folder string, rows, more int) error {
	all, further := filepath.Join(folder, "all.csv"), filepath.Join(folder, "further.csv")
	if err := writeRoster(all, 0, rows); err != nil {
		return err
	}
	if err := writeRoster(further, rows, more); err != nil {
		return err
	}
	importer, err := newImporter(pool)
	if err != nil {
		return err
	}
	if _, err := pool.Exec(ctx, `VACUUM ANALYZE`); err != nil {
		return err
	}
	report := func(what string, n int, took time.Duration) {
		fmt.Fprintf(out, "%-44s %9.3f s %12.0f rows/s\n", what, took.Seconds(), float64(n)/took.Seconds())
	}
	fmt.Fprintf(out, "%d rows of 12 columns\n", rows)

	first, err := timeImport(ctx, importer, all, provisioning.Import{Rows: rows, Created: rows})
	if err != nil {
		return err
	}
	report("import into a fresh, vacuumed database", rows, first)
	plain, err := timeCopy(ctx, pool, filepath.Join(folder, "clients.copy"))
	if err != nil {
		return err
	}
	report("plain COPY into an equally indexed table", rows, plain)
	fmt.Fprintf(out, "%-44s %9.2f\n", "import : plain COPY", first.Seconds()/plain.Seconds())
	again, err := timeImport(ctx, importer, all, provisioning.Import{Rows: rows, Unchanged: rows})
	if err != nil {
		return err
	}
	report("import of the same file again", rows, again)
	added, err := timeImport(ctx, importer, further, provisioning.Import{Rows: more, Created: more})
	if err != nil {
		return err
	}
	report(fmt.Sprintf("import of %d more", more), more, added)
	peak, err := peakMemory()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%-44s %9d MB\n", "most memory that this process ever had", peak>>20)
	return nil
}

func newImporter(pool *pgxpool.Pool) (*provisioning.Importer, error) {
	pattern, err := provisioning.ParsePattern("{local}+{slug}@{domain}")
	if err != nil {
		return nil, err
	}
	mailbox, err := provisioning.ParseMailbox("agency@agency.example")
	if err != nil {
		return nil, err
	}
	namer, err := provisioning.NewNamer(pattern, mailbox, 50)
	if err != nil {
		return nil, err
	}
	return &provisioning.Importer{DB: pool, Namer: namer, Mailbox: mailbox}, nil // Nobody is invited, so nothing is mailed.
}

// timeImport imports a file and demands that it did what is wanted.
func timeImport(ctx context.Context, importer *provisioning.Importer, path string, want provisioning.Import) (time.Duration, error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close() //nolint:errcheck // It was only read.
	began := time.Now()
	got, err := importer.Import(ctx, file, provisioning.ImportOptions{FileName: filepath.Base(path), Actor: provisioning.ActorCLI})
	took := time.Since(began)
	if err != nil {
		return 0, err
	}
	if got.Rows != want.Rows || got.Created != want.Created || got.Unchanged != want.Unchanged {
		return 0, fmt.Errorf("%d rows gave %d created and %d unchanged clients, not %d and %d",
			got.Rows, got.Created, got.Unchanged, want.Created, want.Unchanged)
	}
	return took, nil
}

// timeCopy writes the clients to a file and copies them from there into a table like theirs.
func timeCopy(ctx context.Context, pool *pgxpool.Pool, path string) (time.Duration, error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Release()
	file, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer file.Close() //nolint:errcheck // What was written is counted when it is read.
	pg := conn.Conn().PgConn()
	written, err := pg.CopyTo(ctx, file, `COPY clients TO STDOUT (FORMAT binary)`)
	if err != nil {
		return 0, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	if _, err := conn.Exec(ctx, `CREATE TABLE copied (LIKE clients INCLUDING ALL)`); err != nil {
		return 0, err
	}
	began := time.Now()
	read, err := pg.CopyFrom(ctx, file, `COPY copied FROM STDIN (FORMAT binary)`)
	took := time.Since(began)
	if err != nil {
		return 0, err
	}
	if read.RowsAffected() != written.RowsAffected() {
		return 0, fmt.Errorf("%d of %d rows were copied", read.RowsAffected(), written.RowsAffected())
	}
	_, err = conn.Exec(ctx, `DROP TABLE copied`)
	return took, err
}

// writeRoster writes rows of 12 columns, numbered from first on, with keys in no order.
func writeRoster(path string, first, rows int) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	buffer := bufio.NewWriter(file)
	w := csv.NewWriter(buffer)
	write := func(record ...string) {
		if err == nil {
			err = w.Write(record)
		}
	}
	write("name", "owner_email", "ref", "owner_name", "account_id", "route", "site_url", "locale", "time_zone", "tags", "Plan", "Notes")
	for i := first; i < first+rows; i++ {
		key := uint64(i) * 0x9E3779B97F4A7C15 >> 24 //nolint:gosec // i counts rows
		write(
			fmt.Sprintf("Café & Bakery %d, Inc.", i), fmt.Sprintf("ann.smith%d@client%d.example", i, i), fmt.Sprintf("ACME-%d", i),
			"Ann Smith", fmt.Sprintf("a07e%x", key), "owner", fmt.Sprintf("https://www.client%d.example/", i), "en-US",
			"America/New_York", "vip,bakery", "Gold", "called twice",
		)
	}
	w.Flush()
	if err == nil {
		err = w.Error()
	}
	if err == nil {
		err = buffer.Flush()
	}
	if closing := file.Close(); err == nil {
		err = closing
	}
	return err
}
