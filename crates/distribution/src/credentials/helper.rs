//! Runs a credential helper, `docker-credential-NAME get` (docker-credential-helpers, "Development").

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;

use super::{Credential, CredentialError};
use crate::error::sanitized;
use crate::secret::Secret;

const OUTPUT_SIZE_BYTES_MAX: u64 = 64 * 1024;

/// The user name by which a helper says that its secret is an identity token.
pub(super) const IDENTITY_TOKEN_USER: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    secret: String,
}

/// The program of the helper `name`.
pub(super) fn program(name: &str) -> Result<String, CredentialError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || !name.bytes().all(is_plain) {
        return Err(CredentialError::HelperName { name: sanitized(name).unwrap_or_default() });
    }
    Ok(format!("docker-credential-{name}"))
}

/// Asks `program` for the credentials of `server`. Nothing, if it has none.
pub(super) fn get(program: &str, server: &str, timeout: Duration) -> Result<Option<Credential>, CredentialError> {
    let cannot_run = |source| CredentialError::HelperRun { program: program.to_owned(), source };
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that on time-out everything that it started ends with it.
        .process_group(0)
        .spawn()
        .map_err(cannot_run)?;
    let output = communicate(&mut child, server, timeout);
    let is_late = matches!(&output, Err(error) if error.kind() == io::ErrorKind::TimedOut);
    if output.is_err() {
        end(&mut child);
    }
    let output = match output {
        Err(_) if is_late => {
            return Err(CredentialError::HelperTimeout { program: program.to_owned(), seconds: timeout.as_secs() });
        }
        output => output.map_err(cannot_run)?,
    };
    interpret(program, &output)
}

struct Output {
    is_success: bool,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

fn communicate(child: &mut Child, server: &str, timeout: Duration) -> io::Result<Output> {
    let deadline = Instant::now() + timeout;
    if let Some(mut stdin) = child.stdin.take() {
        // A server's name fits into a pipe. A helper that reads nothing at all still may answer.
        match stdin.write_all(server.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
    }
    let stdout = read_aside(child.stdout.take());
    let stderr = read_aside(child.stderr.take());
    let receive = |receiver: mpsc::Receiver<Vec<u8>>| {
        receiver
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))
    };
    let (stdout, stderr) = (receive(stdout)?, receive(stderr)?);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Output { is_success: status.success(), stdout, stderr });
        }
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Reads a pipe on a thread of its own, which ends when the pipe is closed.
fn read_aside(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe
            && pipe.take(OUTPUT_SIZE_BYTES_MAX).read_to_end(&mut bytes).is_err()
        {
            bytes.clear();
        }
        // Nobody listens any more after a time-out.
        drop(sender.send(bytes));
    });
    receiver
}

/// Ends the helper and everything that it started. Failures mean that they had ended already.
fn end(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        kill_process_group(group, Signal::KILL).ok();
    }
    drop(child.kill());
    drop(child.wait());
}

fn interpret(program: &str, output: &Output) -> Result<Option<Credential>, CredentialError> {
    let answer: Option<Answer> = serde_json::from_slice(&output.stdout).ok();
    if output.is_success {
        return match answer {
            Some(answer) if answer.secret.is_empty() => Ok(None),
            Some(answer) if answer.username == IDENTITY_TOKEN_USER => {
                Ok(Some(Credential::IdentityToken(Secret::new(answer.secret))))
            }
            Some(answer) => {
                Ok(Some(Credential::Password { username: answer.username, password: Secret::new(answer.secret) }))
            }
            None => Err(CredentialError::HelperAnswer { program: program.to_owned() }),
        };
    }
    let stdout = String::from_utf8_lossy(&output.stdout);
    if stdout.contains("credentials not found") || stdout.contains("no credentials server URL") {
        return Ok(None);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    // A helper that fails after it printed a secret may have logged it, too.
    let message = if stdout.contains('{') || stderr.contains('{') { None } else { sanitized(&stderr) };
    Err(CredentialError::HelperFailed { program: program.to_owned(), message })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Runs a shell script as a credential helper.
    fn ask(script: &str, timeout: Duration) -> Result<Option<Credential>, CredentialError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("docker-credential-test");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
        let path = path.to_str().expect("UTF-8");
        loop {
            match get(path, "registry.example", timeout) {
                // Another test's fork may still hold the file open for writing.
                Err(CredentialError::HelperRun { source, .. })
                    if source.kind() == io::ErrorKind::ExecutableFileBusy => {}
                answer => return answer,
            }
        }
    }

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn a_helper_is_told_the_server_and_answers_with_user_and_password() {
        let answer = ask(r#"read server; echo "{\"Username\":\"$1-$server\",\"Secret\":\"hunter2\"}""#, SOON);
        let expected =
            Credential::Password { username: "get-registry.example".to_owned(), password: Secret::new("hunter2") };
        assert_eq!(answer.expect("an answer"), Some(expected.clone()));
        assert!(!format!("{expected:?}").contains("hunter2"));
    }

    #[test]
    fn the_user_named_token_has_an_identity_token() {
        let answer = ask(r#"echo '{"Username":"<token>","Secret":"it"}'"#, SOON);
        assert_eq!(answer.expect("an answer"), Some(Credential::IdentityToken(Secret::new("it"))));
    }

    #[test]
    fn a_helper_without_credentials_is_no_failure() {
        let answer = ask("echo 'credentials not found in native keychain'; exit 1", SOON);
        assert_eq!(answer.expect("an answer"), None);
    }

    #[test]
    fn a_helpers_words_are_shown_unless_they_may_hold_the_secret() {
        let error = ask("echo 'no keychain' >&2; exit 3", SOON).expect_err("it fails").to_string();
        let program = error.split('`').nth(1).expect("a program").to_owned();
        insta::assert_snapshot!(error.replace(&program, "PROGRAM"), @"the credential helper `PROGRAM` failed: no keychain");
        let error = ask("echo hunter2", SOON).expect_err("no JSON").to_string();
        insta::assert_snapshot!(error.replace(error.split('`').nth(1).expect("a program"), "PROGRAM"), @"the answer of the credential helper `PROGRAM` cannot be read");
        let error = ask("echo 'got hunter2' >&2; echo '{\"Secret\":\"hunter2\"}'; exit 3", SOON).expect_err("it fails");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }

    #[test]
    fn a_helper_that_hangs_is_ended_with_everything_that_it_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let pid = folder.path().join("pid");
        let started = Instant::now();
        let script = format!("sleep 600 & echo $! > '{}'; wait", pid.display());
        let error = ask(&script, Duration::from_secs(2)).expect_err("it hangs");
        let CredentialError::HelperTimeout { program, .. } = &error else { panic!("{error:?}") };
        let text = format!("{error}\n{}", error.hint().unwrap_or_default());
        insta::assert_snapshot!(text.replace(program, "PROGRAM"), @"
        the credential helper `PROGRAM` gave no answer within 2 seconds
        unlock the keychain that it asks
        ");
        assert!(started.elapsed() < Duration::from_secs(60));
        let pid = std::fs::read_to_string(pid).expect("the script ran");
        let stat = format!("/proc/{}/stat", pid.trim());
        // It is gone, or a zombie that nobody has collected.
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(started.elapsed() < Duration::from_secs(60), "it still runs");
        }
    }

    #[test]
    fn a_helpers_name_is_no_path() {
        for name in ["", "../x", "a/b", "a b", "x\n"] {
            assert!(program(name).is_err(), "{name:?}");
        }
        assert_eq!(program("ecr-login").expect("a name"), "docker-credential-ecr-login");
    }
}
