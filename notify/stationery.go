package notify

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/audit"
	"github.com/countersign/countersign/templates"
)

// Stationery keeps every version of what the agency writes its mails with. A message goes out with the
// version that it was queued under.
type Stationery struct {
	DB        provisioning.DB
	Templates *templates.Set
	// Settings are the parts of the letterhead that come from the configuration.
	Settings templates.Letterhead
	// Scopes are what owners are asked for.
	Scopes []string
	// PublicURL is where logos are shown.
	PublicURL string

	mu       sync.Mutex
	compiled map[int64]*templates.Mails

	latest atomic.Pointer[readLetterhead]
}

// readLetterhead is the letterhead as it was read last.
type readLetterhead struct {
	letterhead templates.Letterhead
	at         time.Time
}

// Version is a version of the stationery. The zero ID is what there is before the agency has changed anything.
type Version struct {
	ID      int64
	At      time.Time
	Actor   provisioning.Actor
	Content templates.Stationery
}

// MaxLogo bounds a logo, in bytes: it is loaded on phones.
const MaxLogo = 200 << 10

var (
	// ErrLogo is matched by the errors of SaveLogo that the picture is to blame for.
	ErrLogo = errors.New("this logo cannot be used")
	// ErrStationery is matched by the errors of Change that the new content is to blame for.
	ErrStationery = errors.New("this cannot be used in mails")
)

// errUnread is matched when it could not be read what a mail is to be written on: that is not the mail's fault.
var errUnread = errors.New("the stationery cannot be read at the moment")

const (
	// keptCompiled is how many versions are kept ready. Messages of older ones are rare.
	keptCompiled = 16
	// readPatience bounds the reading of one, which others wait for.
	readPatience = 10 * time.Second
	// letterheadAge is how old the letterhead of a page may be: it is on every page that an owner sees.
	letterheadAge = time.Second
)

// Current returns the version that new messages are queued under.
func (s *Stationery) Current(ctx context.Context) (Version, error) {
	return s.read(ctx, s.DB, `SELECT id, at, actor, letterhead, texts FROM stationery ORDER BY id DESC LIMIT 1`)
}

func (s *Stationery) read(ctx context.Context, db provisioning.DB, sql string, args ...any) (v Version, err error) {
	var chosen templates.Letterhead
	err = db.QueryRow(ctx, sql, args...).Scan(&v.ID, &v.At, &v.Actor, &chosen, &v.Content.Texts)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return Version{}, fmt.Errorf("read the stationery: %w", err)
	}
	v.Content.Letterhead = s.complete(chosen)
	return v, nil
}

// Letterhead returns that of the current version, or of one that was current a second ago if another process
// has changed it since.
func (s *Stationery) Letterhead(ctx context.Context) (templates.Letterhead, error) {
	if l := s.latest.Load(); l != nil && time.Since(l.at) < letterheadAge {
		return l.letterhead, nil
	}
	at := time.Now()
	var chosen templates.Letterhead
	err := s.DB.QueryRow(ctx, `SELECT letterhead FROM stationery ORDER BY id DESC LIMIT 1`).Scan(&chosen)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return templates.Letterhead{}, fmt.Errorf("read the letterhead: %w", err)
	}
	l := s.complete(chosen)
	s.latest.Store(&readLetterhead{l, at})
	return l, nil
}

// complete adds what the configuration says to what the agency has chosen.
func (s *Stationery) complete(chosen templates.Letterhead) templates.Letterhead {
	agency := chosen.Agency
	if agency == "" {
		agency = s.Settings.Agency
	}
	chosen.Agency, chosen.ReplyTo = agency, s.Settings.ReplyTo
	chosen.Provider, chosen.ProviderHost, chosen.Host = s.Settings.Provider, s.Settings.ProviderHost, s.Settings.Host
	return chosen
}

// Change makes a new version of the current one. Changes come one after the other, so that two operators
// who work on different texts do not undo each other's work. Its error is that of change, or matches
// ErrStationery and tells every mistake if what change made of it is not complete; there is no new version then.
func (s *Stationery) Change(ctx context.Context, actor provisioning.Actor, change func(*templates.Stationery) error) error {
	err := pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `LOCK TABLE stationery IN SHARE ROW EXCLUSIVE MODE`); err != nil {
			return err
		}
		v, err := s.read(ctx, tx, `SELECT id, at, actor, letterhead, texts FROM stationery ORDER BY id DESC LIMIT 1`)
		if err != nil {
			return err
		}
		if v.Content.Texts == nil {
			v.Content.Texts = make(map[string]string)
		}
		content := v.Content
		content.Texts = maps.Clone(content.Texts)
		if err := change(&content); err != nil {
			return err
		}
		if err := content.Validate(); err != nil {
			return fmt.Errorf("%w: %w", ErrStationery, err)
		}
		before, after, err := audit.Diff(v.Content, content)
		if err != nil {
			return err
		}
		if content.Agency == s.Settings.Agency {
			content.Agency = "" // It follows the configuration.
		}
		_, err = tx.Exec(ctx, `INSERT INTO stationery (actor, letterhead, texts) VALUES ($1, $2, $3)`,
			actor, content.Letterhead, content.Texts)
		if err != nil {
			return err
		}
		return provisioning.Audit(ctx, tx, actor, audit.Entry{
			Action: "mail.stationery", Object: "stationery", Before: before, After: after,
		})
	})
	s.latest.Store(nil)
	if err != nil {
		return fmt.Errorf("change the stationery: %w", err)
	}
	return nil
}

// Mails returns the mails of a version, ready to be filled in; nil is the version with the zero ID.
func (s *Stationery) Mails(ctx context.Context, id *int64) (*templates.Mails, error) {
	var key int64
	if id != nil {
		key = *id
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if mails := s.compiled[key]; mails != nil {
		return mails, nil
	}
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	v, err := s.read(ctx, s.DB, `SELECT id, at, actor, letterhead, texts FROM stationery WHERE id = $1`, key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnread, err)
	}
	mails, err := s.Templates.Mails(v.Content, s.Scopes)
	if err != nil {
		return nil, err
	}
	if s.compiled == nil {
		s.compiled = make(map[int64]*templates.Mails)
	}
	for id := range s.compiled {
		if len(s.compiled) < keptCompiled {
			break
		}
		delete(s.compiled, id)
	}
	s.compiled[key] = mails
	return mails, nil
}

// SaveLogo keeps a picture and returns its address, for the letterhead. Its error matches ErrLogo if the picture
// is too big or none that mail programs show.
func (s *Stationery) SaveLogo(ctx context.Context, content []byte) (address string, err error) {
	mediaType := http.DetectContentType(content)
	switch {
	case len(content) > MaxLogo:
		return "", fmt.Errorf("%w: it has %d KB; make it smaller than %d KB", ErrLogo, len(content)>>10, MaxLogo>>10)
	case mediaType != "image/png" && mediaType != "image/jpeg" && mediaType != "image/gif":
		return "", fmt.Errorf("%w: it is no PNG, JPEG or GIF picture; mail programs show no others", ErrLogo)
	}
	sum := sha256.Sum256(content)
	digest := hex.EncodeToString(sum[:])
	_, err = s.DB.Exec(ctx, `
		INSERT INTO logos (digest, media_type, content)
		VALUES ($1, $2, $3)
		ON CONFLICT DO NOTHING`, digest, mediaType, content)
	if err != nil {
		return "", fmt.Errorf("keep the logo: %w", err)
	}
	return s.PublicURL + "/logo/" + digest, nil
}

// Logo returns a picture that SaveLogo has kept. It returns provisioning.ErrNotFound if there is none.
func (s *Stationery) Logo(ctx context.Context, digest string) (mediaType string, content []byte, err error) {
	err = s.DB.QueryRow(ctx, `SELECT media_type, content FROM logos WHERE digest = $1`, digest).Scan(&mediaType, &content)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil, fmt.Errorf("logo: %w", provisioning.ErrNotFound)
	}
	if err != nil {
		return "", nil, fmt.Errorf("read the logo: %w", err)
	}
	return mediaType, content, nil
}
