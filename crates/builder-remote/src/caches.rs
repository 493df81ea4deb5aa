//! Caches outside of the daemons: those that the user names, else those of the project.

use imagespec_core::builder::BuildRequest;
use imagespec_core::cache_location::CacheLocation;
use imagespec_core::platform::Platform;
use imagespec_core::reference::Reference;

use crate::fleet;

/// Digits of the digest in the tag of a cache.
const TAG_DIGITS: usize = 32;

/// Where results are taken from and brought to, in that order.
pub(crate) type Caches = (Vec<CacheLocation>, Vec<CacheLocation>);

/// The caches of the build for `platform`. `repository` is the project's.
pub(crate) fn caches(request: &BuildRequest, platform: &Platform, repository: Option<&str>) -> Caches {
    if !request.cache_from.is_empty() || !request.cache_to.is_empty() {
        let is_one = request.plan.platforms.len() == 1;
        let own =
            |caches: &[CacheLocation]| caches.iter().map(|cache| of_platform(cache, platform)).collect::<Vec<_>>();
        return match is_one {
            true => (request.cache_from.clone(), request.cache_to.clone()),
            false => ([own(&request.cache_from), request.cache_from.clone()].concat(), own(&request.cache_to)),
        };
    }
    let Some(repository) = repository else { return (Vec::new(), Vec::new()) };
    // One for all images that share their slow steps: whoever comes first leaves them for the others.
    let key = fleet::affinity(&request.plan, platform).to_hex();
    let name = format!("{repository}:imagespec-{}", &key[..TAG_DIGITS]);
    let registry = name.parse::<Reference>().map(|name| name.registry().to_owned()).unwrap_or_default();
    let mut attributes = vec![("ref", name.as_str())];
    if request.registries.get(&registry).is_some_and(|access| access.insecure) {
        attributes.push(("registry.insecure", "true"));
    }
    let location = |more: &[(&str, &str)]| CacheLocation {
        kind: "registry".to_owned(),
        attributes: attributes
            .iter()
            .chain(more)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    };
    // A manifest of an image is what every registry takes.
    let to = [("mode", "max"), ("ignore-error", "true"), ("image-manifest", "true"), ("oci-mediatypes", "true")];
    (vec![location(&[])], vec![location(&to)])
}

/// The same cache under a tag of the platform's own: each is built by itself, and the last one would take the place of the
/// others.
fn of_platform(cache: &CacheLocation, platform: &Platform) -> CacheLocation {
    let mut cache = cache.clone();
    if let Some(name) = cache.attributes.get_mut("ref")
        && let Ok(reference) = name.parse::<Reference>()
        && let Ok(own) = reference.with_tag(&format!(
            "{}-{}",
            reference.tag().unwrap_or("latest"),
            platform.to_string().replace('/', "-")
        ))
    {
        *name = own.familiar();
    }
    cache
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_platform_has_a_tag_of_its_own() {
        let cache = |name: &str| CacheLocation {
            kind: "registry".to_owned(),
            attributes: [("ref".to_owned(), name.to_owned())].into(),
        };
        let arm = "linux/arm64".parse().unwrap();
        assert_eq!(of_platform(&cache("r.example/team/cache"), &arm), cache("r.example/team/cache:latest-linux-arm64"));
        assert_eq!(of_platform(&cache("r.example/team/cache:x"), &arm), cache("r.example/team/cache:x-linux-arm64"));
    }
}
