//! The client: what it is made of, and the patience that it has with registries.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use imagespec_core::builder::{NetworkPolicy, RegistryAccess};
use reqwest::blocking::Response;

use crate::authentication::Authentication;
use crate::credentials::CredentialStore;
use crate::endpoint::Endpoint;
use crate::error::{Error, is_temporary_status};
use crate::exchange::{Call, answer_error};
use crate::retry::RetryPolicy;
use crate::transport::Transport;

/// What a client is made of.
#[derive(Debug)]
pub struct ClientOptions {
    /// How to reach registries that need something special, by `HOST[:PORT]`.
    pub registries: BTreeMap<String, RegistryAccess>,
    /// Where credentials are.
    pub credentials: CredentialStore,
    /// Value of the `User-Agent` header.
    pub user_agent: String,
    /// How often a request is tried.
    pub retry: RetryPolicy,
    /// Whether registries may be asked anything.
    pub network: NetworkPolicy,
}

impl Default for ClientOptions {
    /// No special registries, no credentials.
    fn default() -> Self {
        Self {
            registries: BTreeMap::new(),
            credentials: CredentialStore::default(),
            user_agent: concat!("imagespec/", env!("CARGO_PKG_VERSION")).to_owned(),
            retry: RetryPolicy::default(),
            network: NetworkPolicy::Online,
        }
    }
}

/// A client for all registries. Many threads may use one; connections and tokens are then shared.
///
/// Making one does nothing yet: certificates and credentials are read when the first request needs them.
pub struct Client<'c> {
    pub(crate) transport: Transport,
    pub(crate) authentication: Authentication,
    pub(crate) cancelled: &'c (dyn Fn() -> bool + Sync),
    pub(crate) retry: RetryPolicy,
    network: NetworkPolicy,
    registries: BTreeMap<String, RegistryAccess>,
    endpoints: Mutex<BTreeMap<String, Arc<Endpoint>>>,
}

impl<'c> Client<'c> {
    /// A client that stops soon, with [`Error::Cancelled`], once `cancelled` answers yes.
    pub fn new(options: ClientOptions, cancelled: &'c (dyn Fn() -> bool + Sync)) -> Self {
        let ClientOptions { registries, credentials, user_agent, retry, network } = options;
        Self {
            transport: Transport::new(user_agent),
            authentication: Authentication::new(credentials),
            cancelled,
            retry,
            network,
            registries,
            endpoints: Mutex::default(),
        }
    }

    /// The way to `registry`, which every request needs.
    pub(crate) fn endpoint(&self, registry: &str) -> Result<Arc<Endpoint>, Error> {
        if self.network == NetworkPolicy::Offline {
            return Err(Error::Offline { registry: registry.to_owned() });
        }
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(endpoint) = endpoints.get(registry) {
            return Ok(Arc::clone(endpoint));
        }
        let access = self.registries.get(registry).cloned().unwrap_or_default();
        let endpoint = Arc::new(Endpoint::new(registry, access)?);
        endpoints.insert(registry.to_owned(), Arc::clone(&endpoint));
        Ok(endpoint)
    }

    /// Sends `call` until the registry gives an answer that is not temporary, and returns that.
    ///
    /// # Errors
    /// When there is none after as many attempts as `retry` says.
    pub(crate) fn request(&self, endpoint: &Endpoint, call: &Call<'_>, retry: RetryPolicy) -> Result<Response, Error> {
        let mut attempts = retry.attempts();
        loop {
            let failure = match self.exchange(endpoint, call, &mut || {}) {
                Ok(response) if !is_temporary_status(response.status().as_u16()) => return Ok(response),
                Ok(response) => answer_error(endpoint, &call.method, response),
                Err(error) => error,
            };
            attempts.pause(failure, self.cancelled)?;
        }
    }
}

impl fmt::Debug for Client<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Client").field("registries", &self.registries).finish_non_exhaustive()
    }
}
