//! One build by BuildKit: the request, its progress, and what came out. Protocol: `moby.buildkit.v1.Control`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::{
    CacheOptions, CacheOptionsEntry, SolveRequest, StatusRequest, StatusResponse,
};
use imagespec_core::builder::CachePolicy;
use imagespec_core::cache_location::CacheLocation;
use imagespec_core::masked::Masked;
use imagespec_core::platform::Platform;
use reqwest::Url;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::one_line;
use crate::progress::{FailedStep, Follower, Progress};
use crate::recipe::{Recipe, RecipeSecret};
use crate::session::{DOCKERFILE_NAME, MESSAGE_SIZE_BYTES_MAX, Session, random_id, read_secret};

/// The frontend inside of every BuildKit.
const FRONTEND: &str = "dockerfile.v0";
/// How often somebody looks whether the user asked to stop.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);
/// How long the last news of a build that ended are waited for.
const LAST_NEWS_TIMEOUT: Duration = Duration::from_secs(5);

/// How BuildKit's words end for what it gave up.
const STOPPED: &str = "context canceled";

/// What BuildKit is asked for.
pub struct Solve<'a> {
    /// The Dockerfile and its context.
    pub recipe: &'a Recipe,
    /// The platforms to build for.
    pub platforms: Vec<Platform>,
    /// What becomes of the result: BuildKit's name of an exporter, and its attributes.
    pub exporter: (&'a str, BTreeMap<String, String>),
    /// Where earlier results are looked for, and where results are written to.
    pub cache_from: Vec<CacheLocation>,
    /// Where results are written to for others.
    pub cache_to: Vec<CacheLocation>,
    /// Whether earlier results may be used.
    pub cache: CachePolicy,
    /// Seconds since 1970 that the image carries, where BuildKit can.
    pub timestamp: u64,
    /// Further attributes of the frontend.
    pub attributes: BTreeMap<String, String>,
}

/// What came out of a solve.
#[derive(Debug, Clone, Default)]
pub struct Solved {
    /// What the exporter says of the result: `containerimage.digest` and others.
    pub exporter: BTreeMap<String, String>,
    /// Stage and index of each of the recipe's steps that was done earlier.
    pub cached: BTreeSet<(String, usize)>,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum SolveError {
    /// The user asked to stop.
    #[error("the build was cancelled")]
    Cancelled,
    /// A step failed.
    #[error("`{}` failed", .0.name)]
    Step(Box<FailedStep>),
    /// BuildKit refused, or failed outside of any step. One line.
    #[error("BuildKit: {message}")]
    Refused {
        /// What it said.
        message: String,
    },
    /// The connection broke.
    #[error("the connection to BuildKit broke")]
    Connection(#[source] Box<Status>),
}

/// Has `solve` done over `channel`, whose other end has `session`.
///
/// # Errors
/// When there is no result; BuildKit is then told to stop.
pub async fn solve(
    channel: Channel,
    session: &Session,
    solve: &Solve<'_>,
    progress: &Progress<'_>,
) -> Result<Solved, SolveError> {
    let client = ControlClient::new(channel)
        .max_decoding_message_size(MESSAGE_SIZE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_SIZE_BYTES_MAX);
    let request = solve.request(session);
    let mut follower = Follower::new(progress, solve.recipe, masked(solve.recipe));
    let status_request = StatusRequest { r#ref: request.r#ref.clone() };
    let (mut solver, mut watcher) = (client.clone(), client);
    let solving = solver.solve(request);
    tokio::pin!(solving);
    let watching = watcher.status(status_request);
    tokio::pin!(watching);
    let mut news: Option<Streaming<StatusResponse>> = None;
    let mut clock = interval(WATCH_INTERVAL);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut is_asked, mut is_open) = (false, true);
    let result = loop {
        tokio::select! {
            result = &mut solving => break result,
            stream = &mut watching, if !is_asked => {
                is_asked = true;
                news = stream.ok().map(tonic::Response::into_inner);
            }
            status = next(&mut news), if news.is_some() && is_open => match status {
                Some(status) => follower.take(&status),
                None => is_open = false,
            },
            // Whoever is dropped hangs up, and BuildKit stops what nobody waits for.
            _ = clock.tick() => if progress.is_cancelled() { return Err(SolveError::Cancelled) },
        }
    };
    let deadline = Instant::now() + LAST_NEWS_TIMEOUT;
    while let Ok(Some(status)) = timeout_at(deadline, next(&mut news)).await {
        follower.take(&status);
    }
    match result {
        Ok(response) => Ok(Solved {
            exporter: response.into_inner().exporter_response.into_iter().collect(),
            cached: follower.cached(),
        }),
        Err(_) if progress.is_cancelled() => Err(SolveError::Cancelled),
        Err(status) if std::error::Error::source(&status).is_some() => Err(SolveError::Connection(Box::new(status))),
        Err(status) => match follower.failed() {
            // What fails by itself is told, whatever code BuildKit gives it.
            Some(failed) if !failed.message.ends_with(STOPPED) => Err(SolveError::Step(Box::new(failed))),
            _ if is_stopped(&status) => Err(SolveError::Connection(Box::new(status))),
            _ => Err(SolveError::Refused { message: one_line(&masked(solve.recipe).apply(status.message())) }),
        },
    }
}

/// The next news; none at the end, or when there are none.
async fn next(news: &mut Option<Streaming<StatusResponse>>) -> Option<StatusResponse> {
    news.as_mut()?.message().await.ok().flatten()
}

/// Whether the daemon is being stopped, which cancels what runs.
fn is_stopped(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Cancelled) || status.message().ends_with(STOPPED)
}

/// What no line may show.
fn masked(recipe: &Recipe) -> Masked {
    let mut masked = Masked::default();
    for secret in recipe.secrets.values() {
        if let RecipeSecret::Given(source) = secret
            && let Ok(value) = read_secret(source)
        {
            masked.add(&String::from_utf8_lossy(&value));
        }
    }
    // Programs of a step see proxies, and may say who we are to them.
    for value in recipe.build_arguments.values() {
        let Ok(url) = Url::parse(value) else { continue };
        let login = url.password().or_else(|| Some(url.username()).filter(|user| !user.is_empty()));
        for login in login.into_iter() {
            masked.add(login);
            masked.add(&percent_decoded(login));
        }
    }
    masked
}

/// A text of a URL without its escapes (RFC 3986, section 2.1).
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = tail.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => (bytes.push(byte), rest = &tail[2..]),
            None => (bytes.push(*first), rest = tail),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Solve<'_> {
    /// What BuildKit must allow beside the usual: the network of its own machine.
    fn entitlements(&self) -> Vec<String> {
        let mode = self.attributes.get("force-network-mode").map(String::as_str);
        if mode == Some("host") { vec!["network.host".to_owned()] } else { Vec::new() }
    }

    fn request(&self, session: &Session) -> SolveRequest {
        let platforms: Vec<_> = self.platforms.iter().map(ToString::to_string).collect();
        let mut attributes = self.attributes.clone();
        attributes.insert("filename".to_owned(), DOCKERFILE_NAME.to_owned());
        attributes.insert("platform".to_owned(), platforms.join(","));
        attributes.insert("build-arg:SOURCE_DATE_EPOCH".to_owned(), self.timestamp.to_string());
        for (name, value) in &self.recipe.build_arguments {
            attributes.insert(format!("build-arg:{name}"), value.clone());
        }
        if self.cache == CachePolicy::Rebuild {
            // Of all stages.
            attributes.insert("no-cache".to_owned(), String::new());
        }
        if !self.cache_from.is_empty() {
            // It is the frontend that looks there; what stands below is for builds without one.
            attributes.insert("cache-imports".to_owned(), cache_imports(&self.cache_from));
        }
        let (exporter, exporter_attributes) = &self.exporter;
        SolveRequest {
            r#ref: random_id(),
            exporter_deprecated: (*exporter).to_owned(),
            exporter_attrs_deprecated: map(exporter_attributes),
            session: session.id().to_owned(),
            // BuildKit's history would hold the values of build arguments, and that of a proxy may be a password.
            internal: true,
            entitlements: self.entitlements(),
            frontend: FRONTEND.to_owned(),
            frontend_attrs: map(&attributes),
            cache: Some(CacheOptions {
                exports: self.cache_to.iter().map(cache).collect(),
                imports: self.cache_from.iter().map(cache).collect(),
                ..CacheOptions::default()
            }),
            ..SolveRequest::default()
        }
    }
}

/// Caches as the frontend reads them: BuildKit's `CacheOptionsEntry` as JSON.
fn cache_imports(locations: &[CacheLocation]) -> String {
    let entries =
        locations.iter().map(|CacheLocation { kind, attributes }| json!({ "Type": kind, "Attrs": attributes }));
    serde_json::Value::Array(entries.collect()).to_string()
}

fn cache(location: &CacheLocation) -> CacheOptionsEntry {
    CacheOptionsEntry { r#type: location.kind.clone(), attrs: map(&location.attributes) }
}

fn map(entries: &BTreeMap<String, String>) -> HashMap<String, String> {
    entries.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}
