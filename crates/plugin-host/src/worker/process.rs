//! A worker's process, with all that it starts: it is known when it has ended, whoever else holds its sockets and pipes.

use std::process::{Child, ExitStatus};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// A process that is the leader of its group.
pub(super) struct Process {
    group: Pid,
    end: Mutex<End>,
    has_ended: Condvar,
}

#[derive(Default)]
struct End {
    /// From then on the number may be somebody else's.
    is_reaped: bool,
    status: Option<ExitStatus>,
}

impl Process {
    /// Waits for the end of `leader`, ends what it leaves behind, and then calls `at_end`.
    pub(super) fn watch(mut leader: Child, at_end: impl FnOnce() + Send + 'static) -> Arc<Self> {
        let group = Pid::from_child(&leader);
        let process = Arc::new(Self { group, end: Mutex::default(), has_ended: Condvar::new() });
        let watched = Arc::clone(&process);
        thread::spawn(move || {
            // It is not reaped yet, so that its number stays its own.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while matches!(waitid(WaitId::Pid(group), options), Err(Errno::INTR)) {}
            let mut end = watched.end.lock().expect("nobody panics while it is held");
            let _ = kill_process_group(group, Signal::KILL);
            end.status = leader.wait().ok();
            end.is_reaped = true;
            drop(end);
            watched.has_ended.notify_all();
            at_end();
        });
        process
    }

    /// Ends the group, if it has not ended.
    pub(super) fn kill(&self) {
        let end = self.end.lock().expect("nobody panics while it is held");
        if !end.is_reaped {
            let _ = kill_process_group(self.group, Signal::KILL);
        }
    }

    /// Waits for the end, and brings it about if it has not come after `patience`.
    pub(super) fn wait(&self, patience: Duration) -> Option<ExitStatus> {
        let end = self.end.lock().expect("nobody panics while it is held");
        let waited = self.has_ended.wait_timeout_while(end, patience, |end| !end.is_reaped);
        let (end, _) = waited.expect("nobody panics while it is held");
        if end.is_reaped {
            return end.status;
        }
        drop(end);
        self.kill();
        let end = self.end.lock().expect("nobody panics while it is held");
        let end = self.has_ended.wait_while(end, |end| !end.is_reaped).expect("nobody panics while it is held");
        end.status
    }
}
