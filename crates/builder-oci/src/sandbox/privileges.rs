//! Takes ids and capabilities from the process that becomes the program. See capabilities(7).

use std::io;

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use super::users::Identity;
use super::{Failure, Mode};

/// Docker's default set without CAP_MKNOD: no user namespace honours that one, so that with it a program would behave
/// in one way in a user namespace and in another as real root.
const KEPT: [Capability; 13] = [
    Capability::CAP_AUDIT_WRITE,
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_KILL,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_NET_RAW,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETGID,
    Capability::CAP_SETPCAP,
    Capability::CAP_SETUID,
    Capability::CAP_SYS_CHROOT,
];

/// Becomes `identity` with no more capabilities than a container has.
pub(super) fn give_up(identity: &Identity, mode: Mode) -> Result<(), Failure> {
    for capability in caps::runtime::thread_all_supported() {
        if !KEPT.contains(&capability) {
            caps::drop(None, CapSet::Bounding, capability).map_err(failed("bounding set"))?;
        }
    }
    if mode != Mode::UserNamespaceSingle {
        become_user(identity)?;
    }
    let permitted = caps::read(None, CapSet::Permitted).map_err(failed("permitted set"))?;
    let kept: CapsHashSet = permitted.into_iter().filter(|capability| KEPT.contains(capability)).collect();
    caps::clear(None, CapSet::Ambient).map_err(failed("ambient set"))?;
    caps::clear(None, CapSet::Inheritable).map_err(failed("inheritable set"))?;
    caps::set(None, CapSet::Effective, &kept).map_err(failed("effective set"))?;
    caps::set(None, CapSet::Permitted, &kept).map_err(failed("permitted set"))
}

fn become_user(identity: &Identity) -> Result<(), Failure> {
    let groups: Vec<Gid> = identity.supplementary.iter().copied().map(Gid::from_raw).collect();
    let (user, group) = (Uid::from_raw(identity.user), Gid::from_raw(identity.group));
    let subject = || format!("{}:{}", identity.user, identity.group);
    setgroups(&groups).map_err(Failure::system("set groups of", subject()))?;
    setresgid(group, group, group).map_err(Failure::system("become group of", subject()))?;
    setresuid(user, user, user).map_err(Failure::system("become user of", subject()))
}

fn failed(set: &'static str) -> impl FnOnce(CapsError) -> Failure {
    move |error| Failure::system("reduce capabilities:", set)(io::Error::other(error.to_string()))
}
