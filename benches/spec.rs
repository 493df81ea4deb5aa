//! From text to hash.

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use imagespec_benches::large_spec;
use imagespec_core::document::Format;
use imagespec_core::hash::{SpecHash, SpecId};
use imagespec_core::lower::lower;
use imagespec_core::platform::Platform;
use imagespec_core::resolve::{ResolveContext, resolve};
use imagespec_core::spec::Spec;

fn text_to_hash(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let root: &Path = folder.path();
    let text = large_spec(500);
    let platform = Platform::linux_amd64();
    let context = ResolveContext {
        root,
        spec_path: None,
        default_name: "large",
        host_platform: &platform,
        load_spec: &|path| Err(format!("nothing loads `{}`", path.display()).into()),
    };
    let parse = || Spec::parse("large.yaml", text.as_bytes(), Format::Yaml).expect("the spec is in order");
    let spec = parse();
    let resolved = resolve(&spec, root, &context).expect("the spec can be resolved");
    let plan = lower(&resolved);
    let mut group = criterion.benchmark_group("spec with 500 packages");
    group.bench_function("parse", |bencher| bencher.iter(parse));
    group.bench_function("resolve", |bencher| bencher.iter(|| resolve(black_box(&spec), root, &context)));
    group.bench_function("lower", |bencher| bencher.iter(|| lower(black_box(&resolved))));
    group.bench_function("hash", |bencher| bencher.iter(|| (SpecHash::of(black_box(&plan)), SpecId::of(&spec))));
    group.bench_function("all", |bencher| {
        bencher.iter(|| {
            let resolved = resolve(&parse(), root, &context).expect("the spec can be resolved");
            SpecHash::of(&lower(&resolved))
        });
    });
}

criterion_group!(benches, text_to_hash);
criterion_main!(benches);
