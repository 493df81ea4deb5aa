//! An engine: found, asked what it is, and asked to do something. REST by bollard, over our own connections.

mod about;
mod address;
mod upgrade;

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::errors::Error as BollardError;
use bollard::models::{ImageInspect, SystemInfo, SystemVersion};
use bollard::query_parameters::PushImageOptions;
use bollard::{BollardRequest, ClientVersion, Docker};
use futures_util::{Stream, StreamExt};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use imagespec_buildkit::connection::{Connection, DialError, dial};
use imagespec_buildkit::{Session, one_line};
use imagespec_core::digest::Digest;
use imagespec_core::reference::Reference;
use imagespec_distribution::Login;
use tonic::transport::Channel;
use tower_service::Service;

pub use about::About;
pub(crate) use address::DEFAULT;
pub use address::{Address, AddressError, Place, TlsFiles, Wishes};
pub use upgrade::UpgradeError;

/// The oldest API that is spoken: that of Docker 20.10, whose BuildKit knows mounts.
pub const API_MIN: (u32, u32) = (1, 41);
/// The newest API that is spoken, which bollard's types are made of.
const API_MAX: (u32, u32) = (1, 53);
/// How long an engine may take to say what it is.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// An image is loaded and exported in one request, which takes as long as it takes: the user may cancel it.
const WORK_TIMEOUT_SECONDS: u64 = 24 * 60 * 60;
/// What an engine is asked for that pushes, without and with a login.
pub(crate) const PUSH: &str = "push the image";
pub(crate) const PUSH_AS_USER: &str = "push the image with the login that is stored";

/// An engine that answers.
pub struct Engine {
    address: Address,
    docker: Docker,
    /// What it is.
    pub about: About,
}

/// Why an engine did not do something.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It cannot be found.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// It cannot be reached.
    #[error("cannot reach a Docker engine at `{place}`")]
    Unreachable {
        /// Where.
        place: String,
        /// Why.
        source: DialError,
    },
    /// It is no engine.
    #[error("what answers at `{place}` is no Docker engine: {problem}")]
    NoEngine {
        /// Where.
        place: String,
        /// What it said.
        problem: String,
    },
    /// It is older than we speak.
    #[error("the engine at `{place}` is {name} {version} with API {}.{}, and the oldest that is spoken is {}.{}", .api.0, .api.1, API_MIN.0, API_MIN.1)]
    TooOld {
        /// Where.
        place: String,
        /// What.
        name: String,
        /// Its version.
        version: String,
        /// Its API.
        api: (u32, u32),
    },
    /// It did not do as it was asked.
    #[error("the engine did not {action}: {problem}")]
    Refused {
        /// What was asked: `load the base`.
        action: &'static str,
        /// What it said. One line.
        problem: String,
        /// The status of HTTP, if it answered with one.
        status: Option<u16>,
    },
    /// The connection broke.
    #[error("the engine at `{place}` went away")]
    Gone {
        /// Where.
        place: String,
        /// What broke.
        problem: String,
    },
    /// A connection for BuildKit cannot be had.
    #[error("the engine gives no way to its BuildKit")]
    Upgrade(#[from] UpgradeError),
    /// gRPC does not work over it.
    #[error("the engine's BuildKit does not answer")]
    Grpc(#[source] tonic::transport::Error),
}

impl Engine {
    /// Connects to the engine that `wishes` lead to, and asks what it is.
    ///
    /// # Errors
    /// When there is none, or one that is too old.
    pub async fn connect(wishes: &Wishes) -> Result<Self, EngineError> {
        let address = Address::find(wishes)?;
        let place = address.place.to_string();
        // bollard's error would not say so clearly why nobody answers.
        let first = dial(&address.place.way()).await;
        drop(first.map_err(|source| EngineError::Unreachable { place: place.clone(), source })?);
        let docker = client(&address.place)?;
        let (version, info) = ask(&docker).await.map_err(|problem| problem.tell(place.clone()))?;
        let about = About::of(&version, &info);
        if about.api < API_MIN {
            let About { name, version, api, .. } = about;
            return Err(EngineError::TooOld { place, name, version, api });
        }
        let api = about.api.min(API_MAX);
        let docker = docker.with_request_modifier(move |request| versioned(url_safe_login(request), api));
        Ok(Self { address, docker, about })
    }

    /// Where it is, and who says so.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The image called `name`, if the engine has it.
    ///
    /// # Errors
    /// When the engine does not say.
    pub async fn image(&self, name: &str) -> Result<Option<ImageInspect>, EngineError> {
        match self.docker.inspect_image(name).await {
            Ok(image) => Ok(Some(image)),
            Err(BollardError::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(self.told("say which images it has", &error)),
        }
    }

    /// Lengths in bytes of what the entries of the image's history added, the first one first, without those that added
    /// nothing.
    ///
    /// # Errors
    /// When the engine does not say.
    pub async fn layer_sizes(&self, name: &str) -> Result<Vec<u64>, EngineError> {
        let history = self.docker.image_history(name).await;
        let history = history.map_err(|error| self.told("say what the image is made of", &error))?;
        let sizes = history.into_iter().rev().filter_map(|entry| u64::try_from(entry.size).ok());
        Ok(sizes.filter(|size_bytes| *size_bytes > 0).collect())
    }

    /// Loads an archive as `docker save` writes it, and returns what the engine says of it.
    ///
    /// # Errors
    /// When it is not taken.
    pub async fn load<S>(&self, archive: S) -> Result<String, EngineError>
    where
        S: Stream<Item = std::io::Result<bytes::Bytes>> + Send + 'static,
    {
        let options = bollard::query_parameters::ImportImageOptions { quiet: true, ..Default::default() };
        let mut answers = self.docker.import_image_stream(options, archive, None);
        let mut said = String::new();
        while let Some(answer) = answers.next().await {
            let answer = answer.map_err(|error| self.told("load the base", &error))?;
            said.push_str(answer.stream.as_deref().unwrap_or_default());
        }
        Ok(said)
    }

    /// The archive of the image `name`, as `docker save` writes it.
    pub fn save(&self, name: &str) -> impl Stream<Item = Result<bytes::Bytes, EngineError>> + use<'_> {
        self.docker.export_image(name).map(|part| part.map_err(|error| self.told("hand the image over", &error)))
    }

    /// Pushes the image under its name, tells `progress` how many bytes are done and there are, and returns its digest.
    ///
    /// # Errors
    /// When the registry or the engine does not take it.
    pub async fn push(
        &self,
        name: &Reference,
        login: Option<Login>,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Option<Digest>, EngineError> {
        let action = if login.is_some() { PUSH_AS_USER } else { PUSH };
        let credentials = login.map(|login| {
            let server = Some(name.registry().to_owned());
            let password = Some(login.password().to_owned());
            match login.is_identity_token() {
                true => DockerCredentials { identitytoken: password, serveraddress: server, ..Default::default() },
                false => DockerCredentials {
                    username: Some(login.username),
                    password,
                    serveraddress: server,
                    ..Default::default()
                },
            }
        });
        let image = format!("{}/{}", name.registry(), name.repository());
        let options = PushImageOptions { tag: name.tag().map(str::to_owned), ..Default::default() };
        let mut answers = Box::pin(self.docker.push_image(&image, Some(options), credentials));
        let mut layers: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        let mut digest = None;
        while let Some(answer) = answers.next().await {
            let answer = answer.map_err(|error| self.told(action, &error))?;
            // `TAG: digest: sha256:… size: 1234`
            let words = answer.status.as_deref().unwrap_or_default();
            if let Some((_, rest)) = words.split_once("digest: ") {
                digest = rest.split_whitespace().next().and_then(|digest| digest.parse().ok());
            }
            if let Some((done, total)) =
                answer.progress_detail.and_then(|detail| Some((detail.current?, detail.total?)))
            {
                let bytes = |count: i64| u64::try_from(count).unwrap_or(0);
                layers.insert(total.to_string(), (bytes(done).min(bytes(total)), bytes(total)));
                let sum = layers.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
                progress(sum.0, sum.1);
            }
        }
        Ok(digest)
    }

    /// gRPC to the BuildKit inside.
    ///
    /// # Errors
    /// When there is none.
    pub async fn buildkit(&self) -> Result<Channel, EngineError> {
        let connection = self.upgraded("/grpc", &[]).await?;
        imagespec_buildkit::channel(connection).await.map_err(EngineError::Grpc)
    }

    /// The connection over which BuildKit asks `session`.
    ///
    /// # Errors
    /// When there is none.
    pub async fn session(&self, session: &Session) -> Result<Connection, EngineError> {
        self.upgraded("/session", &session.headers()).await
    }

    async fn upgraded(&self, path: &str, headers: &[(&'static str, String)]) -> Result<Connection, EngineError> {
        let unreachable = |source| EngineError::Unreachable { place: self.address.place.to_string(), source };
        let connection = dial(&self.address.place.way()).await.map_err(unreachable)?;
        Ok(upgrade::upgrade(connection, path, headers).await?)
    }

    fn told(&self, action: &'static str, error: &BollardError) -> EngineError {
        match error {
            BollardError::DockerResponseServerError { status_code, message } => {
                EngineError::Refused { action, problem: one_line(message), status: Some(*status_code) }
            }
            BollardError::DockerStreamError { error } => {
                EngineError::Refused { action, problem: one_line(error), status: None }
            }
            error => EngineError::Gone { place: self.address.place.to_string(), problem: words(error) },
        }
    }
}

/// A client of the engine at `place`.
fn client(place: &Place) -> Result<Docker, EngineError> {
    let client = Client::builder(TokioExecutor::new()).build(Dialer(place.clone()));
    let transport = move |request: BollardRequest| {
        let client = client.clone();
        async move { client.request(request).await.map_err(BollardError::from) }
    };
    let version = ClientVersion { major_version: API_MIN.0 as usize, minor_version: API_MIN.1 as usize };
    // The address is for the form: all goes through our own connections.
    let docker =
        Docker::connect_with_custom_transport(transport, Some("http://engine"), WORK_TIMEOUT_SECONDS, &version);
    docker.map_err(|error| Unanswered::from(error).tell(place.to_string()))
}

/// What the engine says of itself.
async fn ask(docker: &Docker) -> Result<(SystemVersion, SystemInfo), Unanswered> {
    let asked = async { Ok((docker.version().await?, docker.info().await?)) };
    tokio::time::timeout(ANSWER_TIMEOUT, asked).await.unwrap_or(Err(Unanswered::Late))
}

/// Why an engine did not say what it is.
enum Unanswered {
    Late,
    Refused(BollardError),
}

impl From<BollardError> for Unanswered {
    fn from(error: BollardError) -> Self {
        Self::Refused(error)
    }
}

impl Unanswered {
    fn tell(self, place: String) -> EngineError {
        let problem = match &self {
            Self::Late => "it does not say what it is within 30 seconds".to_owned(),
            Self::Refused(error) => match DialError::beneath(error) {
                Some(source) => return EngineError::Unreachable { place, source },
                None => words(error),
            },
        };
        EngineError::NoEngine { place, problem }
    }
}

/// Opens a connection whenever the HTTP client wants one.
#[derive(Clone)]
struct Dialer(Place);

impl Service<hyper::Uri> for Dialer {
    type Response = TokioIo<Connection>;
    type Error = DialError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), DialError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: hyper::Uri) -> Self::Future {
        let place = self.0.clone();
        Box::pin(async move { dial(&place.way()).await.map(TokioIo::new) })
    }
}

/// The same request in version `api`. bollard leaves the version out with a transport of somebody else's, which an engine
/// takes for its newest: what it is is asked so, since nobody knows yet which version it speaks.
fn versioned(mut request: BollardRequest, (major, minor): (u32, u32)) -> BollardRequest {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    if !path.starts_with(&format!("/v{major}.")) {
        let mut parts = request.uri().clone().into_parts();
        let path = format!("/v{major}.{minor}{path}");
        parts.path_and_query = Some(path.parse().expect("a path behind a version is a path"));
        *request.uri_mut() = hyper::Uri::from_parts(parts).expect("only its path is another one");
    }
    request
}

/// Engines read the login in the alphabet of URLs (RFC 4648, section 5), and bollard writes the other one.
fn url_safe_login(mut request: BollardRequest) -> BollardRequest {
    let login = request.headers().get("X-Registry-Auth").and_then(|value| value.to_str().ok());
    if let Some(login) = login.map(|login| login.replace('+', "-").replace('/', "_")) {
        let value = login.parse().expect("base64 is a header's value");
        request.headers_mut().insert("X-Registry-Auth", value);
    }
    request
}

/// What lies at the bottom of an error, which says more than what is above it.
fn words(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    one_line(&innermost.to_string())
}
