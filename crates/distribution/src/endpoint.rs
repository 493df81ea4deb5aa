//! Where a registry is reached, and how far its certificate is trusted. Sends nothing.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use imagespec_core::builder::RegistryAccess;
use url::{Host, Url};

use crate::error::Error;
use crate::transport::{Proxy, Setup, Trust};

/// The registry that people call Docker Hub.
pub(crate) const DOCKER_HUB: &str = "docker.io";

/// Where Docker Hub's API is.
const DOCKER_HUB_API: &str = "registry-1.docker.io";

/// A way to talk to a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Http,
    Https,
    HttpsUnverified,
}

/// A registry, as its references name it.
///
/// As Docker does it: `https` with a trusted certificate, but for an `insecure` registry any certificate and then plain
/// `http` are tried, and for one on this machine plain `http` and then `https`. The first way that works is kept.
#[derive(Debug)]
pub(crate) struct Endpoint {
    registry: String,
    access: RegistryAccess,
    base: Url,
    /// All ways, the best first.
    ways: &'static [Way],
    current: Mutex<Current>,
}

/// The way that is in use.
#[derive(Debug)]
struct Current {
    way: usize,
    /// Whether it has led to an answer, so that no other is tried.
    is_settled: bool,
}

impl Endpoint {
    /// # Errors
    /// When the registry's name forms no URL.
    pub(crate) fn new(registry: &str, access: RegistryAccess) -> Result<Self, Error> {
        let host = if registry == DOCKER_HUB { DOCKER_HUB_API } else { registry };
        let base =
            Url::parse(&format!("https://{host}/v2/")).map_err(|_| Error::Address { registry: registry.to_owned() })?;
        let ways = match (access.insecure, access.ca_bundle.is_some(), is_loopback(&base)) {
            (true, _, _) => &[Way::HttpsUnverified, Way::Http][..],
            (false, false, true) => &[Way::Http, Way::Https],
            (false, _, _) => &[Way::Https],
        };
        let current = Mutex::new(Current { way: 0, is_settled: false });
        Ok(Self { registry: registry.to_owned(), access, base, ways, current })
    }

    /// The registry as references name it.
    pub(crate) fn registry(&self) -> &str {
        &self.registry
    }

    /// The URL of a path below `/v2/`, the query included, by the way that is in use.
    ///
    /// # Errors
    /// When they form no URL.
    pub(crate) fn url(&self, path: &str) -> Result<Url, Error> {
        let scheme = match self.way() {
            Way::Http => "http",
            Way::Https | Way::HttpsUnverified => "https",
        };
        // A port that is written stays: `Url` leaves out only the default port of the scheme that it was parsed with.
        let host = if self.registry == DOCKER_HUB { DOCKER_HUB_API } else { &self.registry };
        Url::parse(&format!("{scheme}://{host}/v2/{path}"))
            .map_err(|_| Error::Address { registry: self.registry.clone() })
    }

    /// Whether `url` leads to the registry itself, so that its credentials may go there.
    pub(crate) fn is_origin_of(&self, url: &Url) -> bool {
        self.url("").is_ok_and(|base| base.origin() == url.origin())
    }

    /// Whether the registry may be trusted with credentials over plain `http`, and name a token server that uses it.
    pub(crate) fn allows_http(&self) -> bool {
        self.access.insecure || is_loopback(&self.base)
    }

    /// How to connect to `url`, a place that the registry itself named or that it is at.
    pub(crate) fn setup(&self, url: &Url) -> Setup {
        let proxy = if is_loopback(url) { Proxy::Never } else { Proxy::System };
        if url.scheme() == "http" {
            return Setup { trust: Trust::Nobody, proxy };
        }
        let trust = match &self.access.ca_bundle {
            _ if self.is_origin_of(url) && self.way() == Way::HttpsUnverified => Trust::Anybody,
            // The storage behind a registry with an authority of its own usually has the same one.
            Some(bundle) => Trust::SystemAnd(bundle.clone()),
            None => Trust::System,
        };
        Setup { trust, proxy }
    }

    /// Notes that the way in use led to an answer of a registry.
    pub(crate) fn settle(&self) {
        self.current().is_settled = true;
    }

    /// Turns to the next way after the one of `failed` led nowhere, or back to the first if there is none. Whether
    /// there is one to be tried.
    pub(crate) fn turn_from(&self, failed: &Url) -> bool {
        let is_current = self.is_origin_of(failed);
        let mut current = self.current();
        if current.is_settled {
            return false;
        }
        // Unless another thread turned already.
        if is_current {
            current.way = (current.way + 1) % self.ways.len();
        }
        current.way != 0
    }

    fn way(&self) -> Way {
        self.ways[self.current().way]
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a URL leads to this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(registry: &str, access: RegistryAccess) -> Endpoint {
        Endpoint::new(registry, access).expect("an address")
    }

    fn ways(endpoint: &Endpoint) -> Vec<String> {
        let mut ways = Vec::new();
        loop {
            let url = endpoint.url("x").expect("a URL");
            ways.push(format!("{url} {:?}", endpoint.setup(&url).trust));
            if !endpoint.turn_from(&url) {
                return ways;
            }
        }
    }

    #[test]
    fn plain_http_is_for_this_machine_and_for_insecure_registries() {
        let secure = RegistryAccess::default();
        let insecure = RegistryAccess { insecure: true, ca_bundle: None };
        let bundle = RegistryAccess { insecure: false, ca_bundle: Some("ca.pem".into()) };
        assert_eq!(ways(&endpoint("ghcr.io", secure.clone())), ["https://ghcr.io/v2/x System"]);
        assert_eq!(ways(&endpoint("docker.io", secure.clone())), ["https://registry-1.docker.io/v2/x System"]);
        assert_eq!(
            ways(&endpoint("127.0.0.9:5000", secure.clone())),
            ["http://127.0.0.9:5000/v2/x Nobody", "https://127.0.0.9:5000/v2/x System"]
        );
        assert_eq!(ways(&endpoint("[::1]:5000", secure.clone()))[0], "http://[::1]:5000/v2/x Nobody");
        assert_eq!(ways(&endpoint("localhost:443", secure.clone()))[0], "http://localhost:443/v2/x Nobody");
        assert_eq!(ways(&endpoint("127.0.0.1.example:5000", secure)), ["https://127.0.0.1.example:5000/v2/x System"]);
        assert_eq!(
            ways(&endpoint("in.example", insecure)),
            ["https://in.example/v2/x Anybody", "http://in.example/v2/x Nobody"]
        );
        assert_eq!(ways(&endpoint("localhost:5000", bundle)), ["https://localhost:5000/v2/x SystemAnd(\"ca.pem\")"]);
    }

    #[test]
    fn an_unverified_certificate_is_accepted_from_the_registry_alone() {
        let endpoint = endpoint("in.example", RegistryAccess { insecure: true, ca_bundle: None });
        let elsewhere = Url::parse("https://storage.example/x").expect("a URL");
        assert_eq!(endpoint.setup(&elsewhere).trust, Trust::System);
    }

    #[test]
    fn once_a_way_led_to_an_answer_no_other_is_tried() {
        let endpoint = endpoint("in.example", RegistryAccess { insecure: true, ca_bundle: None });
        endpoint.settle();
        assert_eq!(ways(&endpoint).len(), 1);
    }
}
