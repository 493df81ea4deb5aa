//! Whether an image exists, asked of a registry in this process.

use criterion::{Criterion, criterion_group, criterion_main};
use imagespec_distribution::testing::{Access, Registry};
use imagespec_distribution::{Client, ClientOptions, Existence};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn existence(criterion: &mut Criterion) {
    let registry = Registry::start(Access::Open).expect("a port is free");
    registry.put_manifest("team/app", "there", MANIFEST, br#"{"schemaVersion":2}"#);
    let (there, absent) = (registry.reference("team/app:there"), registry.reference("team/app:absent"));
    let client = || Client::new(ClientOptions::default(), &|| false);
    let warm = client();
    assert!(matches!(warm.exists(&there), Existence::Yes { .. }));
    assert!(matches!(warm.exists(&absent), Existence::No));
    let mut group = criterion.benchmark_group("exists");
    group.bench_function("yes", |bencher| bencher.iter(|| warm.exists(&there)));
    group.bench_function("no", |bencher| bencher.iter(|| warm.exists(&absent)));
    group.bench_function("yes, by a new client", |bencher| bencher.iter(|| client().exists(&there)));
}

criterion_group!(benches, existence);
criterion_main!(benches);
