//! Who the user is to a registry, asked when BuildKit pulls a base or pushes. Protocol: `moby.filesync.v1.Auth`.

use std::collections::BTreeSet;
use std::sync::Arc;

use bollard_buildkit_proto::moby::filesync::v1::auth_server::Auth;
use bollard_buildkit_proto::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse, GetTokenAuthorityRequest,
    GetTokenAuthorityResponse, VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse,
};
use imagespec_distribution::CredentialStore;
use tonic::{Request, Response, Status};

/// Docker Hub as BuildKit calls it.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// The user's logins at the registries that a build is about.
pub(super) struct Credentials {
    pub(super) store: Arc<CredentialStore>,
    pub(super) registries: BTreeSet<String>,
}

#[tonic::async_trait]
impl Auth for Credentials {
    async fn credentials(&self, request: Request<CredentialsRequest>) -> Result<Response<CredentialsResponse>, Status> {
        let host = request.into_inner().host;
        let registry = if host == DOCKER_HUB { "docker.io".to_owned() } else { host };
        if !self.registries.contains(&registry) {
            tracing::debug!(registry, "BuildKit asks for a login that the build has no use for");
            return Ok(Response::new(CredentialsResponse::default()));
        }
        let store = Arc::clone(&self.store);
        // A credential helper is a program, which may take its time.
        let login = tokio::task::spawn_blocking(move || store.login(&registry, "")).await;
        let login = login.map_err(|_| Status::internal("the login was given up"))?;
        let login = login.map_err(|error| Status::failed_precondition(error.to_string()))?;
        Ok(Response::new(match login {
            // BuildKit takes a password without a user for an identity token.
            Some(login) if login.is_identity_token() => {
                CredentialsResponse { username: String::new(), secret: login.password().to_owned() }
            }
            Some(login) => CredentialsResponse { secret: login.password().to_owned(), username: login.username },
            None => CredentialsResponse::default(),
        }))
    }

    // Without these, BuildKit fetches tokens by itself.

    async fn fetch_token(&self, _: Request<FetchTokenRequest>) -> Result<Response<FetchTokenResponse>, Status> {
        Err(Status::unimplemented("tokens are fetched by BuildKit"))
    }

    async fn get_token_authority(
        &self,
        _: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("tokens are fetched by BuildKit"))
    }

    async fn verify_token_authority(
        &self,
        _: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("tokens are fetched by BuildKit"))
    }
}
