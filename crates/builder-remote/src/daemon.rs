//! One daemon: connected to, asked what it is, and had to build.

use std::future::Future;
use std::time::Duration;

use imagespec_buildkit::connection::{DialError, dial};
use imagespec_buildkit::control::{About, about, open_session};
use imagespec_buildkit::{Progress, Session, Solve, SolveError, Solved, channel, solve};
use tonic::Status;
use tonic::transport::Channel;

use crate::endpoint::Endpoint;

/// How long a daemon may take to say what it is.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often somebody looks whether the user asked to stop.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);

/// A daemon that answers.
pub(crate) struct Daemon {
    channel: Channel,
    /// What it says of itself.
    pub(crate) about: About,
}

/// Why a daemon does not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("what answers there is no BuildKit daemon: {problem}")]
    Other { problem: String },
    #[error("it does not say what it is within {} seconds", ANSWER_TIMEOUT.as_secs())]
    Late,
    #[error("the build was cancelled")]
    Cancelled,
}

impl Daemon {
    /// Connects to the daemon at `endpoint`.
    ///
    /// # Errors
    /// When nobody answers there, or somebody else.
    pub(crate) async fn connect(endpoint: &Endpoint) -> Result<Self, ConnectError> {
        let connection = dial(&endpoint.way).await?;
        let problem = connection.problem();
        let asked = async {
            let channel = channel(connection).await.map_err(|error| ConnectError::of(&error))?;
            let about = about(channel.clone()).await.map_err(|status| ConnectError::of_status(&status))?;
            Ok(Self { channel, about })
        };
        let asked = tokio::time::timeout(ANSWER_TIMEOUT, asked).await.unwrap_or(Err(ConnectError::Late));
        // A daemon says that it does not take our certificate after its part of the handshake.
        asked.map_err(|error| problem.take().map_or(error, ConnectError::Dial))
    }

    /// Has it build `wanted`, with `session` over the same connection.
    ///
    /// # Errors
    /// When there is no result.
    pub(crate) async fn solve(
        &self,
        session: &Session,
        wanted: &Solve<'_>,
        progress: &Progress<'_>,
    ) -> Result<Solved, SolveError> {
        let lost = |status: Status| SolveError::Connection(Box::new(status));
        let connection = open_session(self.channel.clone(), session).await.map_err(lost)?;
        tokio::select! {
            result = solve(self.channel.clone(), session, wanted, progress) => result,
            ended = session.serve(connection) => {
                let problem = ended.err().map_or_else(|| "the session ended".to_owned(), |error| error.to_string());
                Err(lost(Status::unavailable(problem)))
            }
        }
    }
}

impl ConnectError {
    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let innermost = std::iter::successors(Some(error), |error| error.source()).last().unwrap_or(error);
        Self::Other { problem: imagespec_buildkit::one_line(&innermost.to_string()) }
    }

    fn of_status(status: &Status) -> Self {
        match std::error::Error::source(status) {
            Some(source) => Self::of(source),
            None => Self::Other { problem: imagespec_buildkit::one_line(status.message()) },
        }
    }
}

/// Waits for `work`, until the user asks to stop: then there is nothing.
pub(crate) async fn until_cancelled<T>(progress: &Progress<'_>, work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            result = &mut work => return Some(result),
            () = tokio::time::sleep(WATCH_INTERVAL) => if progress.is_cancelled() { return None },
        }
    }
}
