//! What to do about a build that failed, from what its programs printed. Pure.

/// Words of a program's output, and what to do where they stand in it. The first that fits counts.
const KNOWN: [(&[&str], &str); 10] = [
    (&["Git executable not found"], NO_GIT),
    (
        &["cannot run ssh", "ssh: not found"],
        "git fetches by ssh, which the image lacks: add `openssh-client` to `apt_packages`",
    ),
    (
        &["Host key verification failed"],
        "ssh does not know the server: hand its key over, `pip_secret_mounts: [{id: hosts, target: /root/.ssh/known_hosts}]`",
    ),
    (&LOGIN_WORDS, GIT_LOGIN),
    (
        &[
            "repository not found",
            "does not appear to be a git repository",
            "not valid: is this a git repository",
            "' not found",
        ],
        "check the repository's URL; a private one may hide from those who do not say who they are: `pip_secret_mounts`",
    ),
    (
        &[
            "failed to fetch commit",
            "failed to fetch branch",
            "find remote ref",
            "not our ref",
            "unadvertised object",
            "failed to find branch",
        ],
        "check the branch, tag or commit behind the `@`; an abbreviated commit is looked for in branches and tags alone",
    ),
    (&["has no subdirectory"], NO_FOLDER),
    (&["Python.h: No such file", "Python.h: not found"], COMPILER),
    (
        &[
            "command 'gcc' failed",
            "linux-gnu-gcc",
            "gcc: not found",
            "command 'cc' failed",
            "'g++'",
            "'c++'",
            "Unknown compiler(s)",
            "No CMAKE_C_COMPILER",
            "no acceptable C compiler",
            "Microsoft Visual C++",
        ],
        COMPILER,
    ),
    (&["rustc", "cargo"], "it is written in Rust: add `cargo` to `apt_packages`, or take a version that has a wheel"),
];
const LOGIN_WORDS: [&str; 6] = [
    "could not read Username",
    "could not read Password",
    "Authentication failed",
    "terminal prompts disabled",
    "Permission denied (publickey",
    "HTTP Basic: Access denied",
];
/// What to do without git.
pub(crate) const NO_GIT: &str = "add `git` to `apt_packages`";
/// What to do without the folder that was named.
pub(crate) const NO_FOLDER: &str = "check what stands behind `#subdirectory=`";
const COMPILER: &str = "add `build-essential` and `python3-dev` to `apt_packages`, or take a version that has a wheel";
const GIT_LOGIN: &str = "say who you are to the repository: `pip_secret_mounts: [{id: netrc, target: /root/.netrc}]` in the spec, and \
     `--secret id=netrc,src=FILE` with a file that holds `machine HOST login USER password TOKEN`; for ssh a key as \
     `/root/.ssh/id_ed25519`";

/// What to do about a program that printed `lines` last.
pub(crate) fn hint(lines: &[String]) -> Option<&'static str> {
    let has = |word: &&str| lines.iter().any(|line| line.contains(*word));
    KNOWN.iter().find(|(words, _)| words.iter().any(has)).map(|(_, hint)| *hint)
}

/// Whether a server did not believe who we are, or was not told.
pub(crate) fn is_denied(lines: &[String]) -> bool {
    lines.iter().any(|line| LOGIN_WORDS.iter().any(|word| line.contains(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> &'static str {
        hint(&["before".to_owned(), line.to_owned()]).unwrap_or("nothing")
    }

    #[test]
    fn what_compilers_and_git_print_is_understood() {
        for line in [
            "error: command 'gcc' failed: No such file or directory",
            "unable to execute 'x86_64-linux-gnu-gcc': No such file or directory",
            "netifaces.c:1:10: fatal error: Python.h: No such file or directory",
        ] {
            assert_eq!(of(line), COMPILER, "{line}");
        }
        assert_eq!(of("fatal: could not read Username for 'https://x.test': terminal prompts disabled"), GIT_LOGIN);
        assert_eq!(of("Git executable not found. Ensure that Git is installed and available."), NO_GIT);
        assert!(of("fatal: repository 'https://x.test/a.git/' not found").starts_with("check the repository"));
        assert!(of("fatal: couldn't find remote ref refs/heads/x").starts_with("check the branch"));
        assert_eq!(of("SyntaxError: Missing parentheses in call to 'print'"), "nothing");
    }
}
