//! Git repositories that a plain web server can serve as files (git's "dumb" protocol).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::registry::output;

/// A repository with one commit of `files` as `NAME.git` in `folder`, ready to be served. Returns the commit.
pub fn repository(folder: &Path, name: &str, files: &[(&str, &str)]) -> String {
    let tree = folder.join(format!("{name}.work"));
    for (path, text) in files {
        let path: PathBuf = tree.join(path);
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder can be made");
        fs::write(path, text).expect("a file can be written");
    }
    let git = |folder: &Path, arguments: &[&str]| {
        let mut command = Command::new("git");
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "test").env(format!("GIT_{role}_EMAIL"), "test@example.org");
            command.env(format!("GIT_{role}_DATE"), "2020-01-01T00:00:00Z");
        }
        output(command.env("GIT_CONFIG_GLOBAL", "/dev/null").arg("-C").arg(folder).args(arguments))
    };
    git(&tree, &["init", "--quiet", "--initial-branch=main"]);
    git(&tree, &["add", "--all"]);
    git(&tree, &["commit", "--quiet", "--message=one"]);
    let bare = folder.join(format!("{name}.git"));
    git(folder, &["clone", "--quiet", "--bare", &tree.display().to_string(), &bare.display().to_string()]);
    git(&bare, &["update-server-info"]);
    let commit = git(&bare, &["rev-parse", "HEAD"]);
    String::from_utf8(commit).expect("a commit is text").trim().to_owned()
}
