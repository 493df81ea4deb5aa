//! Which user ids exist in the sandbox, and how they are mapped to ids outside it. See user_namespaces(7).

use std::fmt;
use std::fs;
use std::io;
use std::process::{Command, Stdio};

use nix::unistd::{Gid, Uid};
use serde::{Deserialize, Serialize};

/// How the sandbox gets its users. Found out once by trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Root outside: a user namespace in which every id is itself.
    UserNamespaceFull,
    /// An ordinary user outside: root inside is that user, the other ids are those of /etc/subuid and /etc/subgid.
    UserNamespaceSubordinate,
    /// An ordinary user outside, who is root inside and the only user there. Giving a file to somebody else seems to
    /// succeed and does nothing, so owners are then only those that archives know.
    UserNamespaceSingle,
    /// Root outside where no user namespace can be made.
    Root,
}

impl Mode {
    /// Whether there is a user namespace.
    pub(super) fn has_user_namespace(self) -> bool {
        self != Self::Root
    }

    /// Where overlayfs keeps its marks: only real root may write `trusted.*`.
    pub(super) fn overlay_opaque_attribute(self) -> &'static str {
        match self {
            Self::Root => "trusted.overlay.opaque",
            _ => "user.overlay.opaque",
        }
    }

    /// The modes worth trying for this process, the best first.
    pub(super) fn candidates() -> Vec<Self> {
        if Uid::effective().is_root() {
            vec![Self::UserNamespaceFull, Self::Root, Self::UserNamespaceSingle]
        } else if Subordinate::of_this_user().is_some() {
            vec![Self::UserNamespaceSubordinate, Self::UserNamespaceSingle]
        } else {
            vec![Self::UserNamespaceSingle]
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::UserNamespaceFull => "user-namespace-full",
            Self::UserNamespaceSubordinate => "user-namespace-subordinate",
            Self::UserNamespaceSingle => "user-namespace-single",
            Self::Root => "root",
        })
    }
}

/// Maps ids of process `pid`, which has just made its user namespace.
///
/// # Errors
/// When the kernel or `newuidmap` refuses.
pub(super) fn map(pid: u32, mode: Mode) -> io::Result<()> {
    match mode {
        Mode::Root => Ok(()),
        Mode::UserNamespaceFull => {
            fs::write(format!("/proc/{pid}/uid_map"), identity(&fs::read_to_string("/proc/self/uid_map")?))?;
            fs::write(format!("/proc/{pid}/gid_map"), identity(&fs::read_to_string("/proc/self/gid_map")?))
        }
        Mode::UserNamespaceSubordinate => {
            let subordinate = Subordinate::of_this_user()
                .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no line in /etc/subuid and /etc/subgid"))?;
            map_by("newuidmap", pid, Uid::effective().as_raw(), &subordinate.users)?;
            map_by("newgidmap", pid, Gid::effective().as_raw(), &subordinate.groups)
        }
        Mode::UserNamespaceSingle => {
            fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
            fs::write(format!("/proc/{pid}/uid_map"), format!("0 {} 1", Uid::effective()))?;
            fs::write(format!("/proc/{pid}/gid_map"), format!("0 {} 1", Gid::effective()))
        }
    }
}

/// The map in which each id that exists here is itself.
fn identity(map: &str) -> String {
    map.lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (inside, count) = (fields.next()?, fields.nth(1)?);
            Some(format!("{inside} {inside} {count}\n"))
        })
        .collect()
}

/// Maps by one of shadow's two programs, which may do more than we may.
fn map_by(program: &str, pid: u32, own: u32, ranges: &[Range]) -> io::Result<()> {
    let mut command = Command::new(program);
    command.arg(pid.to_string()).args(["0", &own.to_string(), "1"]);
    let mut next: u32 = 1;
    for range in ranges {
        command.args([next.to_string(), range.start.to_string(), range.count.to_string()]);
        next = next.saturating_add(range.count);
    }
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("`{program}`: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

/// A range of subordinate ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    start: u32,
    count: u32,
}

/// The ids that this user was given beside its own.
struct Subordinate {
    users: Vec<Range>,
    groups: Vec<Range>,
}

impl Subordinate {
    /// What subuid(5) and subgid(5) say, if both give something.
    fn of_this_user() -> Option<Self> {
        let user = Uid::effective();
        let name = nix::unistd::User::from_uid(user).ok().flatten().map(|entry| entry.name).unwrap_or_default();
        let read = |path: &str| ranges(&fs::read_to_string(path).unwrap_or_default(), &name, user.as_raw());
        let subordinate = Self { users: read("/etc/subuid"), groups: read("/etc/subgid") };
        (!subordinate.users.is_empty() && !subordinate.groups.is_empty()).then_some(subordinate)
    }
}

/// The ranges that `text`, as subuid(5) has it, gives to the user.
fn ranges(text: &str, name: &str, user: u32) -> Vec<Range> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            let range = Range { start: fields.next()?.parse().ok()?, count: fields.next()?.parse().ok()? };
            let ours = (!name.is_empty() && owner == name) || owner.parse() == Ok(user);
            (ours && range.count > 0).then_some(range)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number_and_broken_lines_are_passed_over() {
        let text = "ann:100000:65536\nbob:1:2\n1000:300000:10\nann:x:1\nann\nann:5:0\n";
        assert_eq!(
            ranges(text, "ann", 1000),
            [Range { start: 100_000, count: 65_536 }, Range { start: 300_000, count: 10 }]
        );
        assert_eq!(ranges(":1:2", "", 7), []);
    }

    #[test]
    fn the_identity_map_has_the_ids_that_exist_here() {
        assert_eq!(
            identity("         0       1000          1\n         1     100000      65536\n"),
            "0 0 1\n1 1 65536\n"
        );
    }
}
