//go:build linux || darwin

package postgres

import (
	"bufio"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// osRelease returns the text in which a Linux system says what it is, or "ID=darwin".
func osRelease() string {
	if runtime.GOOS == "darwin" {
		return "ID=darwin"
	}
	text, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return ""
	}
	return string(text)
}

// installLine returns the command that installs PostgreSQL on the system, any version or exactly the given one.
func installLine(osRelease string, version int) string {
	var number, dashNumber, atNumber string
	if version != 0 {
		number = strconv.Itoa(version)
		dashNumber, atNumber = "-"+number, "@"+number
	}
	for _, system := range systems(osRelease) {
		switch system {
		case "debian", "ubuntu":
			return "apt-get install postgresql" + dashNumber
		case "alpine":
			return "apk add postgresql" + number
		case "fedora", "rhel", "centos", "amzn":
			return "dnf install postgresql" + number + "-server"
		case "suse", "opensuse":
			return "zypper install postgresql" + number + "-server"
		case "arch":
			return "pacman -S postgresql"
		case "darwin":
			return "brew install postgresql" + atNumber
		}
	}
	return "the package manager of your system (the package is called postgresql" + dashNumber + " or similar)"
}

// systems returns what the system is, and after that what it is like.
func systems(osRelease string) []string {
	var id, like []string
	lines := bufio.NewScanner(strings.NewReader(osRelease))
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), "=")
		switch value = strings.Trim(value, `"'`); key {
		case "ID":
			id = strings.Fields(value)
		case "ID_LIKE":
			like = strings.Fields(value)
		}
	}
	return append(id, like...)
}
