package admin

import (
	"errors"
	"slices"
	"strings"
)

// ErrRole means that there is no role of that name.
var ErrRole = errors.New("there are the roles owner, operator and viewer")

// Role is what an operator may do. Each role includes those below it.
type Role string

const (
	RoleOwner    Role = "owner"    // also lets people and programs in, and changes what holds for all
	RoleOperator Role = "operator" // also imports, invites and changes clients
	RoleViewer   Role = "viewer"   // looks
)

// Roles returns all roles, the one that may most first.
func Roles() []Role { return []Role{RoleOwner, RoleOperator, RoleViewer} }

// ParseRole reads the name of a role. It returns ErrRole.
func ParseRole(name string) (Role, error) {
	role := Role(strings.TrimSpace(name))
	if !slices.Contains(Roles(), role) {
		return "", ErrRole
	}
	return role, nil
}

// May reports whether the operator's role is the needed one or includes it.
func (o Operator) May(need Role) bool {
	has := slices.Index(Roles(), o.Role)
	return has >= 0 && has <= slices.Index(Roles(), need)
}
