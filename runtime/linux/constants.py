"""Numbers of the kernel's interface: flags, options and system calls.

Names are the kernel's own. System calls newer than 2019 bear one number on every architecture;
the two older ones that libc hides are looked up by machine.
"""

import os

# --- system calls (include/uapi/asm-generic/unistd.h; the same everywhere since 424) ---
SYS_pidfd_send_signal = 424
SYS_open_tree = 428
SYS_move_mount = 429
SYS_fsopen = 430
SYS_fsconfig = 431
SYS_fsmount = 432
SYS_pidfd_open = 434
SYS_clone3 = 435
SYS_close_range = 436
SYS_openat2 = 437
SYS_mount_setattr = 442
SYS_landlock_create_ruleset = 444
SYS_landlock_restrict_self = 446
SYS_pidfd_getfd = 438

_PIVOT_ROOT = {"x86_64": 155, "i686": 217, "ppc64le": 203, "s390x": 217, "armv7l": 218}
SYS_pivot_root = _PIVOT_ROOT.get(os.uname().machine, 41)  # 41: asm-generic (aarch64, riscv64)
_BPF = {"x86_64": 321, "i686": 357, "ppc64le": 361, "s390x": 351, "armv7l": 386}
_RT_SIGACTION = {"x86_64": 13, "i686": 174, "ppc64le": 173, "s390x": 174, "armv7l": 174}
SYS_rt_sigaction = _RT_SIGACTION.get(os.uname().machine, 134)
SYS_bpf = _BPF.get(os.uname().machine, 280)
_SCHED_SETATTR = {"x86_64": 314, "i686": 351, "ppc64le": 355, "s390x": 345, "armv7l": 380}
SYS_sched_setattr = _SCHED_SETATTR.get(os.uname().machine, 274)
_IOPRIO_SET = {"x86_64": 251, "i686": 289, "ppc64le": 273, "s390x": 282, "armv7l": 314}
SYS_ioprio_set = _IOPRIO_SET.get(os.uname().machine, 30)
_SET_MEMPOLICY = {"x86_64": 238, "i686": 276, "ppc64le": 261, "s390x": 270, "armv7l": 321}
SYS_set_mempolicy = _SET_MEMPOLICY.get(os.uname().machine, 237)
_SECCOMP = {"x86_64": 317, "i686": 354, "ppc64le": 358, "s390x": 348, "armv7l": 383}
SYS_seccomp = _SECCOMP.get(os.uname().machine, 277)

# --- signals: as numbers, because importing `signal` builds enums for 3 ms ---
SIGKILL = 9
SIGPIPE = 13
SIGTERM = 15
SIGCHLD = 17
SIGXFSZ = 25

# --- namespaces, clone3 (include/uapi/linux/sched.h) ---
CLONE_NEWTIME = 0x00000080
CLONE_PIDFD = 0x00001000
CLONE_PARENT = 0x00008000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
NS_GET_NSTYPE = 0xB703
CLONE_INTO_CGROUP = 0x200000000

# --- mount(2), umount2(2) ---
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MNT_DETACH = 2
MS_MOVE = 8192

# --- the mount API by file descriptors (include/uapi/linux/mount.h) ---
FSOPEN_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_SET_FD = 5
FSCONFIG_CMD_CREATE = 6
FSMOUNT_CLOEXEC = 1
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_EMPTY_PATH = 0x40
MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

CLOSE_RANGE_CLOEXEC = 4

# --- openat2(2), *at flags ---
AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_IN_ROOT = 0x10

# --- prctl(2) ---
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_SECCOMP = 22
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4
SECCOMP_MODE_FILTER = 2
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_TSYNC = 0x01
SECCOMP_FILTER_FLAG_LOG = 0x02
SECCOMP_FILTER_FLAG_SPEC_ALLOW = 0x04
SECCOMP_FILTER_FLAG_NEW_LISTENER = 0x08
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 0x20

# --- terminals (include/uapi/asm-generic/ioctls.h) ---
TIOCSPTLCK = 0x40045431
TIOCGPTN = 0x80045430
TIOCGPTPEER = 0x5441
TIOCSCTTY = 0x540E
TIOCGWINSZ = 0x5413
TIOCSWINSZ = 0x5414

# --- network interfaces ---
SIOCGIFFLAGS = 0x8913
SIOCGIFADDR = 0x8915
SIOCSIFFLAGS = 0x8914
IFF_UP = 1
