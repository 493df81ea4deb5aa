//! A session: what BuildKit asks its client for while it builds. We are the server here, BuildKit is the client.
//!
//! Services and their names are those of BuildKit's `session` package. Nothing is offered that the recipe does not need.

mod content;
mod credentials;
mod files;
mod health;
mod received;
mod secrets;
mod ssh;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bollard_buildkit_proto::health::health_server::HealthServer;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::SecretsServer;
use bollard_buildkit_proto::moby::filesync::packet::file_sync_server::FileSyncServer;
use bollard_buildkit_proto::moby::filesync::v1::auth_server::AuthServer;
use bollard_buildkit_proto::moby::filesync::v1::file_send_server::FileSendServer;
use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::SshServer;
use imagespec_core::builder::BuildRequest;
use imagespec_core::digest::Digest;
use imagespec_core::plan::Base;
use imagespec_core::reference::Reference;
use imagespec_distribution::CredentialStore;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::StreamExt;
use tonic::transport::Server;
use tonic::transport::server::{Connected, Router};

use crate::recipe::{Recipe, RecipeSecret};
use crate::stream::Feeder;

pub use content::Blobs;
pub(crate) use files::DOCKERFILE_NAME;
pub(crate) use secrets::read as read_secret;

use files::Tree;

/// The largest message that BuildKit takes, which is also what it may send.
pub(crate) const MESSAGE_SIZE_BYTES_MAX: usize = 16 << 20;

/// Where in the cache folder a user's own part of the key lies.
const OWN_KEY: &str = "builders/buildkit/session-key";
/// BuildKit asks every few seconds whether a session is well. One that does not for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(90);

/// What a session offers for one recipe.
pub struct Session {
    /// A name that no other session has.
    id: String,
    /// Names what is built, so that BuildKit keeps the context for the next time.
    shared_key: String,
    tree: Arc<Tree>,
    dockerfile: Arc<Tree>,
    secrets: BTreeMap<String, RecipeSecret>,
    credentials: Arc<CredentialStore>,
    registries: BTreeSet<String>,
    ssh_agent: Option<PathBuf>,
    receiver: Option<Arc<received::Receiver>>,
    blobs: Option<Arc<Blobs>>,
    pulse: Arc<health::Pulse>,
}

impl Session {
    /// A session for `recipe`, which is that of `request`. BuildKit gets logins of the registries that the request names, and
    /// of no other: whoever runs it could ask for all of them.
    pub fn new(recipe: &Recipe, request: &BuildRequest, credentials: Arc<CredentialStore>) -> Self {
        let timestamp = request.timestamp;
        Self {
            id: random_id(),
            shared_key: format!("{} {}/{}", own_key(request), request.name.registry(), request.name.repository()),
            tree: Arc::new(Tree::of(&recipe.context, timestamp)),
            dockerfile: Arc::new(Tree::of_dockerfile(&recipe.dockerfile, timestamp)),
            secrets: recipe.secrets.clone(),
            credentials,
            registries: registries(request),
            ssh_agent: request.ssh_agent.clone().filter(|_| recipe.wants_ssh),
            receiver: None,
            blobs: None,
            pulse: Arc::default(),
        }
    }

    /// The same session, which takes the result as an archive and hands it to `feeder`.
    pub fn receiving(self, feeder: Feeder) -> Self {
        Self { receiver: Some(Arc::new(received::Receiver::new(feeder))), ..self }
    }

    /// The same session, which has the blobs of a base.
    pub fn with_blobs(self, blobs: Blobs) -> Self {
        Self { blobs: Some(Arc::new(blobs)), ..self }
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What stands in the headers of the request that opens it.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            ("X-Docker-Expose-Session-Uuid", self.id.clone()),
            ("X-Docker-Expose-Session-Name", "imagespec".to_owned()),
            ("X-Docker-Expose-Session-Sharedkey", Digest::of(self.shared_key.as_bytes()).to_hex()),
        ];
        let methods =
            self.methods().into_iter().map(|method| ("X-Docker-Expose-Session-Grpc-Method", method.to_owned()));
        headers.extend(methods);
        headers
    }

    fn methods(&self) -> Vec<&'static str> {
        let mut methods = vec![
            "/grpc.health.v1.Health/Check",
            "/moby.filesync.v1.FileSync/DiffCopy",
            "/moby.filesync.v1.Auth/Credentials",
            "/moby.buildkit.secrets.v1.Secrets/GetSecret",
        ];
        if self.ssh_agent.is_some() {
            methods.extend(["/moby.sshforward.v1.SSH/CheckAgent", "/moby.sshforward.v1.SSH/ForwardAgent"]);
        }
        if self.blobs.is_some() {
            methods.extend(content::METHODS);
        }
        if self.receiver.is_some() {
            methods.push("/moby.filesync.v1.FileSend/DiffCopy");
        }
        methods
    }

    /// Answers what BuildKit asks over `connection`, until the future is dropped: BuildKit is then told that this was all.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn serve<C>(&self, connection: C) -> Result<(), tonic::transport::Error>
    where
        C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        // A server whose listener ends would end at once, and there is one connection alone.
        let connections = tokio_stream::once(Ok::<_, std::io::Error>(connection)).chain(tokio_stream::pending());
        // The connection has a task of its own, which ends with the future only where a server could be told to end.
        self.services().serve_with_incoming_shutdown(connections, std::future::pending()).await
    }

    /// Waits until the daemon has said nothing for so long that it must be gone. Only connections of TCP end by themselves where
    /// the other end is gone without a word.
    pub async fn fell_silent(&self) {
        while !self.pulse.is_silent_for(SILENCE_MAX) {
            tokio::time::sleep(SILENCE_MAX / 10).await;
        }
    }

    fn services(&self) -> Router {
        let files = files::Files { context: Arc::clone(&self.tree), dockerfile: Arc::clone(&self.dockerfile) };
        let secrets = secrets::Secrets { secrets: self.secrets.clone() };
        let credentials =
            credentials::Credentials { store: Arc::clone(&self.credentials), registries: self.registries.clone() };
        let router = Server::builder()
            .add_service(HealthServer::new(health::Healthy(Arc::clone(&self.pulse))))
            .add_service(
                FileSyncServer::new(files)
                    .max_decoding_message_size(MESSAGE_SIZE_BYTES_MAX)
                    .max_encoding_message_size(MESSAGE_SIZE_BYTES_MAX),
            )
            .add_service(AuthServer::new(credentials))
            .add_service(SecretsServer::new(secrets));
        let router = match &self.blobs {
            Some(blobs) => router.add_service(content::ContentServer(Arc::clone(blobs))),
            None => router,
        };
        let router = match &self.receiver {
            Some(receiver) => router.add_service(FileSendServer::from_arc(Arc::clone(receiver))),
            None => router,
        };
        match &self.ssh_agent {
            Some(socket) => router.add_service(SshServer::new(ssh::Agent { socket: socket.clone() })),
            None => router,
        }
    }
}

/// The registries of the base, of caches, and of the image itself.
fn registries(request: &BuildRequest) -> BTreeSet<String> {
    let mut plan = &request.plan;
    while let Base::Plan(nested) = &plan.base {
        plan = nested;
    }
    let base = match &plan.base {
        Base::Registry(reference) => Some(reference.registry().to_owned()),
        _ => None,
    };
    let caches = request.cache_from.iter().chain(&request.cache_to).filter_map(|cache| cache.attributes.get("ref"));
    let caches = caches.filter_map(|name| Some(name.parse::<Reference>().ok()?.registry().to_owned()));
    caches.chain(base).chain([request.name.registry().to_owned()]).collect()
}

/// What only this user's builds know. BuildKit compares files of a context with those that came before under the same key by
/// their times and lengths alone: whoever builds on the same daemon could put others there.
fn own_key(request: &BuildRequest) -> String {
    let path = request.cache_dir.join(OWN_KEY);
    let known = || fs::read_to_string(&path).ok().filter(|key| key.len() == random_id().len());
    let made = || {
        fs::create_dir_all(path.parent()?).ok()?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).ok()?;
        let key = random_id();
        file.write_all(key.as_bytes()).ok()?;
        Some(key)
    };
    // Without a place to keep it, the daemon gets the context anew.
    known().or_else(made).or_else(known).unwrap_or_else(random_id)
}

/// 128 random bits as 32 hexadecimal digits. Whoever knows it may ask the session for secrets.
pub(crate) fn random_id() -> String {
    let mut bytes = [0; 16];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).expect("the kernel has random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bollard_buildkit_proto::health::HealthCheckRequest;
    use bollard_buildkit_proto::health::health_client::HealthClient;

    use super::*;

    fn session() -> Session {
        Session {
            id: random_id(),
            shared_key: String::new(),
            tree: Arc::new(Tree::of(&BTreeMap::new(), 0)),
            dockerfile: Arc::new(Tree::of_dockerfile("FROM scratch\n", 0)),
            secrets: BTreeMap::new(),
            credentials: Arc::new(CredentialStore::from_files(Vec::new())),
            registries: BTreeSet::new(),
            ssh_agent: None,
            receiver: None,
            blobs: None,
            pulse: Arc::default(),
        }
    }

    #[tokio::test]
    async fn a_session_ends_with_whoever_serves_it() {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let session = session();
        let asked = async {
            let mut client = HealthClient::new(crate::channel(theirs).await.unwrap());
            client.check(HealthCheckRequest::default()).await.unwrap();
            client
        };
        let mut client = tokio::select! {
            client = asked => client,
            ended = session.serve(ours) => panic!("{ended:?}"),
        };
        let answers = async { while client.check(HealthCheckRequest::default()).await.is_ok() {} };
        tokio::time::timeout(Duration::from_secs(10), answers).await.expect("it answers no more");
    }
}
