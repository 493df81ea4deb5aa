//! The filter of system calls. A list of what is denied, not of what is allowed.
//!
//! Docker's list of what is allowed has some 350 names and breaks the programs of next year's distribution whenever a C
//! library learns a new call. Here the namespaces and the capabilities are what holds a program; the filter takes away
//! the calls that reach much of the kernel and that no build needs: making namespaces, mounting, loading code into
//! the kernel, keys, tracing of the kernel. What docker answers with EPERM is answered so here as well.

use std::collections::BTreeMap;
use std::io;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::{Failure, Mode};

/// Denied whatever the arguments.
const DENIED: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// Denied calls that only this processor has.
#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[i64] = &[
    libc::SYS__sysctl,
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_sysfs,
    libc::SYS_uselib,
    libc::SYS_ustat,
    X32_KEXEC_LOAD,
];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[i64] = &[];

/// Calls that look absent, so that programs use an older one. The flags of clone3 lie in memory, which no filter can
/// read; io_uring does what other calls do, past the filter.
const ABSENT: &[i64] =
    &[libc::SYS_clone3, libc::SYS_io_uring_enter, libc::SYS_io_uring_register, libc::SYS_io_uring_setup];

/// Calls about owners, which where only one user exists either change nothing or cannot be done.
const OWNERS: &[i64] = &[
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_setfsgid,
    libc::SYS_setfsuid,
    libc::SYS_setgid,
    libc::SYS_setgroups,
    libc::SYS_setregid,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setreuid,
    libc::SYS_setuid,
];
#[cfg(target_arch = "x86_64")]
const OWNERS_HERE: &[i64] = &[libc::SYS_chown, libc::SYS_lchown];
#[cfg(not(target_arch = "x86_64"))]
const OWNERS_HERE: &[i64] = &[];

/// Calls that wait for the disk. What a program writes here is read by us, and thrown away if the machine fails; package
/// managers sync all the time.
const SYNCS: &[i64] =
    &[libc::SYS_fdatasync, libc::SYS_fsync, libc::SYS_sync, libc::SYS_sync_file_range, libc::SYS_syncfs];

/// The namespaces that clone(2) can make.
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];

/// Requests with which a program types into the terminal that it shares with the builder.
const TERMINAL_REQUESTS: [u64; 2] = [0x5412 /* TIOCSTI */, 0x541c /* TIOCLINUX */];

/// Sockets into the machine that hosts this one.
const ADDRESS_FAMILY_VSOCK: u64 = 40;

/// The same call in the x32 interface, which shares the processor's architecture number and must not be a way around.
#[cfg(target_arch = "x86_64")]
const X32: i64 = 0x4000_0000;
/// Of the calls that x32 numbers differently, the one that is denied.
#[cfg(target_arch = "x86_64")]
const X32_KEXEC_LOAD: i64 = X32 | 528;

/// Applies the filter to this process, for good, with no_new_privs.
pub(super) fn apply(mode: Mode) -> Result<(), Failure> {
    let denied = || -> Result<_, seccompiler::Error> {
        let mut rules = whole(DENIED.iter().chain(DENIED_HERE));
        let flags = NAMESPACES.map(|flag| u64::from(flag.cast_unsigned()));
        let clone: Result<_, _> = flags.iter().map(|flag| argument(0, SeccompCmpOp::MaskedEq(*flag), *flag)).collect();
        conditional(&mut rules, libc::SYS_clone, clone?);
        let terminal: Result<_, _> =
            TERMINAL_REQUESTS.iter().map(|request| argument(1, SeccompCmpOp::Eq, *request)).collect();
        conditional(&mut rules, libc::SYS_ioctl, terminal?);
        conditional(&mut rules, libc::SYS_socket, vec![argument(0, SeccompCmpOp::Eq, ADDRESS_FAMILY_VSOCK)?]);
        install(rules, libc::EPERM)?;
        install(whole(ABSENT), libc::ENOSYS)?;
        install(whole(SYNCS), 0)?;
        if mode == Mode::UserNamespaceSingle {
            install(whole(OWNERS.iter().chain(OWNERS_HERE)), 0)?;
        }
        Ok(())
    };
    denied().map_err(|error| Failure::system("install", "seccomp filter")(io::Error::other(error)))
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Rules that match calls whatever their arguments.
fn whole<'a>(calls: impl IntoIterator<Item = &'a i64>) -> Rules {
    let mut rules = Rules::new();
    for call in calls {
        conditional(&mut rules, *call, Vec::new());
    }
    rules
}

/// Adds rules for one call in each interface that has it.
fn conditional(rules: &mut Rules, call: i64, conditions: Vec<SeccompRule>) {
    #[cfg(target_arch = "x86_64")]
    rules.insert(call | X32, conditions.clone());
    rules.insert(call, conditions);
}

/// A rule about the lower half of one argument; the kernel ignores the upper half of these.
fn argument(index: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)?])
}

/// Answers the calls of `rules` with `errno`, 0 being success.
fn install(rules: Rules, errno: i32) -> Result<(), seccompiler::Error> {
    let architecture = std::env::consts::ARCH.try_into()?;
    let answer = SeccompAction::Errno(errno.cast_unsigned());
    let filter: BpfProgram = SeccompFilter::new(rules, SeccompAction::Allow, answer, architecture)?.try_into()?;
    seccompiler::apply_filter(&filter)
}
