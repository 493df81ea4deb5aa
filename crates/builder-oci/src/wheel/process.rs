//! Runs a program that can be stopped while it is silent.

use std::io::{self, Read};
use std::process::{Child, Command, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long it takes at most until somebody who wants to stop is heard.
const STEP: Duration = Duration::from_millis(20);

/// Runs `command` to its end and returns what it printed; `None` if `cancelled` said so before, and it was killed.
pub(super) fn output(command: &mut Command, cancelled: &dyn Fn() -> bool) -> io::Result<Option<Output>> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut child = Running(child);
    let stdout = read(child.0.stdout.take());
    let stderr = read(child.0.stderr.take());
    let status = loop {
        if let Some(status) = child.0.try_wait()? {
            break status;
        }
        if cancelled() {
            return Ok(None);
        }
        thread::sleep(STEP);
    };
    let joined = |reader: JoinHandle<io::Result<Vec<u8>>>| reader.join().expect("a thread that reads does not panic");
    Ok(Some(Output { status, stdout: joined(stdout)?, stderr: joined(stderr)? }))
}

/// A program that does not outlive its value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail if it ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<io::Result<Vec<u8>>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    })
}
