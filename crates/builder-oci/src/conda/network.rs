//! The client for channels, with mirrors and logins, and the runtime that it needs. Nothing asynchronous leaves this
//! folder.
//!
//! Logins come from the file that `rattler auth login` and `pixi auth login` write (RATTLER_AUTH_FILE, else
//! `~/.rattler/credentials.json`: tokens, passwords) and from netrc(5) (NETRC, else `~/.netrc`), each for its own host.

use std::collections::HashMap;
use std::env;
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rattler_networking::authentication_storage::StorageBackend;
use rattler_networking::authentication_storage::backends::file::FileStorage;
use rattler_networking::authentication_storage::backends::memory::MemoryStorage;
use rattler_networking::mirror_middleware::Mirror;
use rattler_networking::{Authentication, AuthenticationMiddleware, AuthenticationStorage, MirrorMiddleware};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};
use url::Url;

use super::error::CondaError;
use crate::wheel::Environment;

/// A server that is silent for so long is given up.
const SILENCE_MAX: Duration = Duration::from_mins(1);
/// How long it takes at most until somebody who wants to stop is heard.
const STEP: Duration = Duration::from_millis(50);

/// The way to channels.
#[derive(Clone)]
pub(super) struct Network {
    pub(super) client: ClientWithMiddleware,
}

impl Network {
    /// The way to the channels at `addresses`, by `mirrors` where there are some.
    ///
    /// # Errors
    /// When the client cannot be made, or the file with logins not be read.
    pub(super) fn new(addresses: &[Url], mirrors: &[(Url, Url)]) -> Result<Self, CondaError> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("imagespec/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(30))
            .read_timeout(SILENCE_MAX)
            .build()
            .map_err(|error| CondaError::Setup { source: error.into() })?;
        let asked = addresses.iter().chain(mirrors.iter().map(|(_, mirror)| mirror));
        let map: HashMap<_, _> = mirrors
            .iter()
            .map(|(original, mirror)| {
                let mirror = Mirror { url: mirror.clone(), no_zstd: false, no_bz2: false, max_failures: None };
                (original.clone(), vec![mirror])
            })
            .collect();
        let client = ClientBuilder::new(client)
            .with(MirrorMiddleware::from_map(map))
            // Behind the mirrors, so that each server is told its own login.
            .with(AuthenticationMiddleware::from_auth_storage(logins(asked)?))
            .build();
        Ok(Self { client })
    }
}

fn logins<'a>(addresses: impl Iterator<Item = &'a Url>) -> Result<AuthenticationStorage, CondaError> {
    let mut storage = AuthenticationStorage::empty();
    if let Some(path) = credentials_file() {
        // Its reader would quote from it.
        let file = FileStorage::from_path(path.clone()).map_err(|_| CondaError::Credentials { path })?;
        storage.add_backend(Arc::new(file));
    }
    let netrc = Environment::of_machine();
    let memory = MemoryStorage::new();
    for url in addresses {
        if let (Some(host), Some((username, password))) = (url.host_str(), netrc.netrc_login(url)) {
            let login = Authentication::BasicHTTP { username, password };
            memory.store(host, &login).map_err(|error| CondaError::Setup { source: error.into() })?;
        }
    }
    storage.add_backend(Arc::new(memory));
    Ok(storage)
}

fn credentials_file() -> Option<PathBuf> {
    let named = env::var_os("RATTLER_AUTH_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    let usual = || Some(PathBuf::from(env::var_os("HOME")?).join(".rattler/credentials.json"));
    named.or_else(usual).filter(|path| path.is_file())
}

/// Waits for `future`, tells `tick` every now and then, and gives up when `cancelled` says so.
///
/// # Errors
/// When there is no runtime, or somebody wants to stop.
pub(super) fn wait<T>(
    future: impl Future<Output = T>,
    cancelled: &dyn Fn() -> bool,
    tick: &dyn Fn(),
) -> Result<T, CondaError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CondaError::Setup { source: error.into() })?;
    let result = runtime.block_on(async {
        let mut future = pin!(future);
        loop {
            match tokio::time::timeout(STEP, future.as_mut()).await {
                Ok(value) => return Ok(value),
                Err(_) if cancelled() => return Err(CondaError::Cancelled),
                Err(_) => tick(),
            }
        }
    });
    // What still reads a file must not be waited for.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn one_who_stops_is_heard_while_a_server_is_silent() {
        let asked = AtomicU32::new(0);
        let cancelled = || asked.fetch_add(1, Ordering::Relaxed) > 2;
        let waited = wait(std::future::pending::<()>(), &cancelled, &|| ());
        assert!(matches!(waited, Err(CondaError::Cancelled)));
        assert_eq!(wait(async { 1 }, &|| true, &|| ()).unwrap(), 1);
    }
}
