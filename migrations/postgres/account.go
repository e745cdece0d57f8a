//go:build linux || darwin

package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// account is the account that runs the server. PostgreSQL refuses to run as root, so a process of root's hands
// it to an unprivileged account; any other process runs it as what it is itself.
type account struct {
	name     string
	uid, gid int
	other    bool // not the account of this process
}

// accountFor returns the account for the cluster: its owner if it exists, so that an account made later on
// (installing a PostgreSQL makes one) does not lock us out of our own data.
func accountFor(cluster string) (account, error) {
	self := account{uid: os.Geteuid(), gid: os.Getegid()}
	info, err := os.Stat(cluster)
	switch {
	case err == nil:
		return ownerOf(cluster, info, self)
	case !errors.Is(err, fs.ErrNotExist):
		return account{}, err
	case self.uid != 0:
		return self, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		entry, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.Atoi(entry.Uid)
		gid, errGID := strconv.Atoi(entry.Gid)
		if err := errors.Join(errUID, errGID); err != nil {
			return account{}, fmt.Errorf("account %s: %w", name, err)
		}
		return account{name: name, uid: uid, gid: gid, other: true}, nil
	}
	return account{}, errors.New("PostgreSQL refuses to run as root, and there is no account postgres or nobody to run it: " +
		"make one (useradd --system postgres), or run Countersign as an ordinary user")
}

func ownerOf(cluster string, info fs.FileInfo, self account) (account, error) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return account{}, fmt.Errorf("the owner of %s is not known", cluster)
	}
	owner := account{name: "uid " + strconv.Itoa(int(stat.Uid)), uid: int(stat.Uid), gid: int(stat.Gid)}
	if entry, err := user.LookupId(strconv.Itoa(owner.uid)); err == nil {
		owner.name = entry.Username
	}
	switch {
	case owner.uid == self.uid && owner.uid != 0:
		return self, nil
	case owner.uid == 0:
		return account{}, fmt.Errorf("%s belongs to root, and PostgreSQL refuses to run as root: "+
			"give it back to the account that it was made by (chown -R)", cluster)
	case self.uid != 0:
		return account{}, fmt.Errorf("%s belongs to %s: run this command as %[2]s, or set COUNTERSIGN_DATA_DIR to another folder",
			cluster, owner.name)
	}
	owner.other = true
	return owner, nil
}

// own gives a new file or folder to the account.
func (a account) own(path string) error {
	if !a.other {
		return nil
	}
	return os.Chown(path, a.uid, a.gid)
}

// attributes let a process run as the account, out of reach of the terminal's Ctrl-C, and end it with the
// signal when the thread that started it ends, on systems that can do so.
func (a account) attributes(atParentsDeath syscall.Signal) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	signalAtParentsDeath(attr, atParentsDeath)
	if a.other {
		attr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)} //nolint:gosec // both were read from the system's own tables
	}
	return attr
}
