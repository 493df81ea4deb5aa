//! The secrets of a recipe, handed over when a step asks. Protocol: `moby.buildkit.secrets.v1`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::Secrets as SecretsService;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use imagespec_core::builder::SecretSource;
use tonic::{Request, Response, Status};

use crate::recipe::RecipeSecret;

/// BuildKit takes no larger ones.
const SECRET_SIZE_BYTES_MAX: u64 = 500 * 1024;

/// The secrets by id.
pub(super) struct Secrets {
    pub(super) secrets: BTreeMap<String, RecipeSecret>,
}

#[tonic::async_trait]
impl SecretsService for Secrets {
    async fn get_secret(&self, request: Request<GetSecretRequest>) -> Result<Response<GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        let data = match self.secrets.get(&id) {
            None | Some(RecipeSecret::Absent) => return Err(Status::not_found(format!("secret {id} is not given"))),
            Some(RecipeSecret::Given(source)) => read(source)
                .map_err(|error| Status::failed_precondition(format!("secret {id} cannot be read: {error}")))?,
            // A build that needs none of them should not fail for want of them.
            Some(RecipeSecret::Authorities(path)) => read_file(path).unwrap_or_default(),
        };
        Ok(Response::new(GetSecretResponse { data }))
    }
}

/// The secret as it is now.
pub(crate) fn read(source: &SecretSource) -> std::io::Result<Vec<u8>> {
    match source {
        SecretSource::Value(value) => Ok(value.clone().into_bytes()),
        SecretSource::File(path) => read_file(path),
    }
}

fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut data = Vec::new();
    File::open(path)?.take(SECRET_SIZE_BYTES_MAX + 1).read_to_end(&mut data)?;
    if data.len() as u64 > SECRET_SIZE_BYTES_MAX {
        return Err(std::io::Error::other("it has more than 500 KiB, which BuildKit does not take"));
    }
    Ok(data)
}
