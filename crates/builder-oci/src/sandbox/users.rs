//! Finds the user of a program in the tree's own passwd(5) and group(5). Runs inside the tree.

use std::fs::File;
use std::io::{self, Read};

use super::{Failure, User};

/// Trees are hostile; a real file of users is far smaller.
const FILE_SIZE_BYTES_MAX: u64 = 16 << 20;

/// The ids of a program.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) user: u32,
    pub(super) group: u32,
    pub(super) supplementary: Vec<u32>,
}

/// The ids that `user` stands for in the tree that is this process's root.
pub(super) fn resolve(user: &User) -> Result<Identity, Failure> {
    match user {
        User::Ids { user, group, supplementary } => {
            Ok(Identity { user: *user, group: *group, supplementary: supplementary.clone() })
        }
        User::Named(name) => named(name, &read("/etc/passwd")?, &read("/etc/group")?),
    }
}

/// The text of a file, nothing if the tree does not have it.
fn read(path: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(FILE_SIZE_BYTES_MAX).read_to_end(&mut bytes)) {
        Ok(_) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Failure::system("read", path)(error)),
    }
}

/// The home of a user in the tree that is this process's root. A user that the tree does not know has `/`, as in
/// docker, and root has `/root`.
pub(super) fn home(user: u32) -> String {
    // A tree without a file of users that can be read knows nobody.
    home_in(&read("/etc/passwd").unwrap_or_default(), user)
}

fn home_in(passwd: &str, user: u32) -> String {
    let mut entries = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let entry = entries.find(|fields| fields.get(2).is_some_and(|id| id.parse() == Ok(user)));
    match entry.and_then(|fields| fields.get(5).copied()).filter(|home| home.starts_with('/')) {
        Some(home) => home.to_owned(),
        None if user == 0 => "/root".to_owned(),
        None => "/".to_owned(),
    }
}

fn named(text: &str, passwd: &str, groups: &str) -> Result<Identity, Failure> {
    let unknown = |name: &str| Failure::UnknownUser { name: name.to_owned() };
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let entries: Vec<Vec<&str>> = passwd.lines().map(|line| line.split(':').collect()).collect();
    let number = |fields: &[&str], index: usize| fields.get(index).and_then(|field| field.parse::<u32>().ok());
    // A name goes before a number, as in docker: a user may be called `1000`.
    let entry = entries
        .iter()
        .find(|fields| !user.is_empty() && fields[0] == user)
        .or_else(|| entries.iter().find(|fields| user.parse().is_ok_and(|id: u32| number(fields, 2) == Some(id))));
    let user_id = match entry {
        Some(fields) => number(fields, 2).ok_or_else(|| unknown(user))?,
        None if user.is_empty() => 0,
        None => user.parse().map_err(|_| unknown(user))?,
    };
    let Some(group) = group.filter(|group| !group.is_empty()) else {
        let own = entry.and_then(|fields| number(fields, 3)).unwrap_or(0);
        let supplementary = entry.map(|fields| memberships(fields[0], groups)).unwrap_or_default();
        return Ok(Identity { user: user_id, group: own, supplementary });
    };
    let group_id = groups
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields[0] == group)
        .and_then(|fields| number(&fields, 2))
        .or_else(|| group.parse().ok())
        .ok_or_else(|| unknown(group))?;
    Ok(Identity { user: user_id, group: group_id, supplementary: Vec::new() })
}

/// The groups that list `name` as a member.
fn memberships(name: &str, groups: &str) -> Vec<u32> {
    groups
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let id = fields.nth(2)?.parse().ok()?;
            fields.next()?.split(',').any(|member| member == name).then_some(id)
        })
        .take(65_536)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1001::/home/ann:/bin/sh\nbroken\n:::\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:bob,ann\nann:x:1001:\nbroken\n";

    #[test]
    fn a_user_is_found_by_name_and_by_number_with_its_groups() {
        let ann = Identity { user: 1000, group: 1001, supplementary: vec![10] };
        assert_eq!(named("ann", PASSWD, GROUP).expect("known"), ann);
        assert_eq!(named("1000", PASSWD, GROUP).expect("known"), ann);
    }

    #[test]
    fn a_home_is_what_the_tree_says_and_root_has_one_anyway() {
        assert_eq!(home_in(PASSWD, 1000), "/home/ann");
        assert_eq!([home_in(PASSWD, 7), home_in("", 0), home_in("ann:x:7:7::relative:", 7)], ["/", "/root", "/"]);
    }

    #[test]
    fn a_given_group_replaces_the_users_own() {
        let identity = |user, group| Identity { user, group, supplementary: vec![] };
        assert_eq!(named("ann:wheel", PASSWD, GROUP).expect("known"), identity(1000, 10));
        assert_eq!(named("7:8", PASSWD, GROUP).expect("numbers"), identity(7, 8));
        assert_eq!(named("7", "", "").expect("a number"), identity(7, 0));
        assert_eq!(named("", PASSWD, GROUP).expect("nobody"), identity(0, 0));
    }

    #[test]
    fn unknown_names_are_errors() {
        for (text, unknown) in [("bob", "bob"), ("ann:staff", "staff"), ("-1", "-1")] {
            let name = unknown.to_owned();
            assert_eq!(named(text, PASSWD, GROUP), Err(Failure::UnknownUser { name }));
        }
    }
}
