package urgent_test

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/shalestore/shale/cmd/internal/urgent"
	"golang.org/x/sys/unix"
)

// The test binary plays a command: it says which weights its threads have, one of them
// started later.
func TestMain(m *testing.M) {
	if os.Getenv("URGENT_TEST") == "" {
		os.Exit(m.Run())
	}
	if os.Getenv("URGENT_TEST") == "granted" { // an ordinary user, whom somebody lets have -5
		err := unix.Setrlimit(unix.RLIMIT_NICE, &unix.Rlimit{Cur: 25, Max: 25})
		if err == unix.EPERM { // root without CAP_SYS_RESOURCE
			os.Stdout.WriteString("unknown")
			return
		}
		if err := errors.Join(err, syscall.Setuid(65534)); err != nil {
			panic(err)
		}
	}
	urgent.Process()
	if os.Getenv("URGENT_TEST") == "start" { // a child, which says what weight it has got
		child := exec.Command("nice")
		child.Stdout = os.Stdout
		if err := errors.Join(urgent.Start(child), child.Wait()); err != nil {
			panic(err)
		}
		return
	}
	later := make(chan int)
	for range 8 {
		go func() {
			<-later
			select {}
		}()
		later <- 0
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		panic(err)
	}
	for _, thread := range threads {
		tid, err := strconv.Atoi(thread.Name())
		if err != nil {
			panic(err)
		}
		if attr, err := unix.SchedGetAttr(tid, 0); err == nil {
			os.Stdout.WriteString(strconv.Itoa(int(attr.Nice)) + "\n")
		}
	}
}

func weights(t *testing.T, role string, prefix ...string) map[string]bool {
	t.Helper()
	words := append(prefix, os.Args[0])
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = append(os.Environ(), "URGENT_TEST="+role)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, nice := range strings.Fields(string(out)) {
		found[nice] = true
	}
	return found
}

func TestProcess(t *testing.T) {
	own, err := unix.SchedGetAttr(0, 0)
	if err != nil || own.Nice != 0 || own.Policy != unix.SCHED_NORMAL {
		t.Skipf("needs a process of the ordinary weight: this has %+v (%v)", own, err)
	}
	want := "-10"
	if unix.Setpriority(unix.PRIO_PROCESS, 0, -1) != nil {
		want = "0" // nobody who may raise it
	} else if err := unix.Setpriority(unix.PRIO_PROCESS, 0, 0); err != nil {
		t.Fatal(err)
	}
	if got := weights(t, "list"); len(got) != 1 || !got[want] {
		t.Errorf("weights of the threads %v, want %s", got, want)
	}
	if got := weights(t, "start"); len(got) != 1 || !got["0"] {
		t.Errorf("weight of a program that stays: %v", got)
	}
	if os.Geteuid() == 0 && want == "-10" {
		if got := weights(t, "granted"); len(got) != 1 || !got["-5"] && !got["unknown"] {
			t.Errorf("weights of a user with RLIMIT_NICE 25: %v, want -5", got)
		}
	}
	// Somebody has chosen a weight for it.
	if got := weights(t, "list", "nice", "-n", "5"); len(got) != 1 || !got["5"] {
		t.Errorf("weights of a process that was started with 5: %v", got)
	}
}

func TestGranted(t *testing.T) {
	for limit, want := range map[uint64]int32{0: 0, 1: 0, 15: 0, 20: 0, 25: -5, 30: -10, 40: -10, 1<<64 - 1: -10} {
		if got := urgent.Granted(limit); got != want {
			t.Errorf("RLIMIT_NICE %d grants %d, want %d", limit, got, want)
		}
	}
}
