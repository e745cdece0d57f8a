package live

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/countersign/countersign/provisioning"
)

const (
	// heartbeat is how long a stream is silent. Proxies close connections that are for a minute, and a reader who has
	// gone without a word is found out by it.
	heartbeat = 15 * time.Second

	// retry is how long a browser waits before it comes again. It asks for the page itself meanwhile.
	retry = 3 * time.Second

	// writing is how long a reader may take for what was sent.
	writing = 10 * time.Second
)

// Names of the events of a stream.
const (
	eventState = "state" // the data is the HTML
	eventEnded = "ended" // the session has: to come again is of no use
)

const endedMessage = "event: " + eventEnded + "\ndata:\n\n"

// Stream answers with the states from now on until the reader goes, its session ends or the hub is closed. The address may
// say as shown which state the page came with; a browser that comes again says it in Last-Event-ID.
//
// An error, such as ErrTooMany or ErrClosed, is one from before anything was answered.
func (h *Hub) Stream(w http.ResponseWriter, r *http.Request, session provisioning.Secret) error {
	shown := r.Header.Get("Last-Event-ID")
	if shown == "" {
		shown = r.URL.Query().Get("shown")
	}
	s, err := h.join(r.Context(), session, shown)
	if err != nil {
		return err
	}
	defer h.leave(s)
	if err := h.show(r.Context(), s); err != nil {
		return err
	}
	begin(w)
	out := &writer{control: http.NewResponseController(w), w: w}
	if !out.write(fmt.Appendf(nil, "retry: %d\n\n", retry.Milliseconds())) {
		return nil
	}
	silence := time.NewTimer(heartbeat)
	defer silence.Stop()
	for {
		var message []byte
		select {
		case <-r.Context().Done():
			return nil
		case <-s.ended:
			if s.expired {
				out.write([]byte(endedMessage))
			}
			// The connection goes on to be used for other requests.
			_ = out.control.SetWriteDeadline(time.Time{})
			return nil
		case state := <-s.states:
			message = state.event()
		case <-silence.C:
			message = []byte(":\n\n")
		}
		if !out.write(message) {
			return nil
		}
		silence.Reset(heartbeat)
	}
}

// Refuse answers a browser that asks for a stream without a session, as one does that comes again after its session has
// ended. It could not make anything of a page to sign in at, and is told to ask for the page itself.
func Refuse(w http.ResponseWriter) error {
	begin(w)
	_, err := w.Write([]byte(endedMessage))
	return err
}

func begin(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store, no-transform") // A proxy that compresses holds back what it compresses.
	w.Header().Set("X-Accel-Buffering", "no")
}

// event writes the state as an event.
func (s State) event() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "event: %s\nid: %s\ndata: ", eventState, s.ID)
	_, _ = strings.NewReplacer("\r\n", "\ndata: ", "\r", "\ndata: ", "\n", "\ndata: ").WriteString(&b, string(s.HTML)) // to memory
	b.WriteString("\n\n")
	return b.Bytes()
}

// writer writes what is to be read at once.
type writer struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// write reports whether somebody is there who reads.
func (w *writer) write(message []byte) bool {
	if err := w.control.SetWriteDeadline(time.Now().Add(writing)); err != nil {
		return false
	}
	if _, err := w.w.Write(message); err != nil {
		return false
	}
	return w.control.Flush() == nil
}
