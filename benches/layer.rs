//! From files and wheels to compressed layers. The cache finds nothing, so each layer is made.

use std::io::Write;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use imagespec_benches::{content, numpy};
use imagespec_builder_oci::cache::{Cache, CacheError, Key};
use imagespec_builder_oci::layer::{Attributes, Layer, LayerError, LayerPath, LayerWriter};
use imagespec_builder_oci::wheel::{self, Scheme};
use imagespec_core::builder::CachePolicy;

const FILES: usize = 1000;
const FILE_SIZE_BYTES: usize = 8 << 10;
const ARCHIVE_SIZE_BYTES: usize = 32 << 20;

/// What making a layer may fail with.
#[derive(Debug)]
struct Failure;

impl From<CacheError> for Failure {
    fn from(_: CacheError) -> Self {
        Self
    }
}

impl From<LayerError> for Failure {
    fn from(_: LayerError) -> Self {
        Self
    }
}

fn path(text: &str) -> LayerPath {
    LayerPath::new(text).expect("a proper path")
}

fn files(cache: &Cache, content: &[u8]) -> Result<Layer, Failure> {
    let write = |writer: &mut LayerWriter| {
        for (number, mut file) in content.chunks(FILE_SIZE_BYTES).enumerate() {
            let path = path(&format!("root/files/{number:06}"));
            writer.file(&path, Attributes::root(0o644), file.len() as u64, &mut file)?;
        }
        Ok(())
    };
    Ok(cache.layer::<Failure>(Key::new("files", [&b"bench"[..]]), 0, write)?.0)
}

fn archive(cache: &Cache, content: &[u8]) -> Result<Layer, Failure> {
    let key = Key::new("archive", [&b"bench"[..]]);
    Ok(cache.layer_of_archive(key, |compressor| compressor.write_all(content).map_err(|_| Failure))?.0)
}

fn layers(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = Cache::open(folder.path()).expect("a cache").with_layers(CachePolicy::Rebuild);
    let wheels = [numpy(&cache)];
    let scheme = Scheme::new(path("opt/venv"), 11);
    let mut group = criterion.benchmark_group("layer");
    group.sample_size(10);
    let content = content(ARCHIVE_SIZE_BYTES);
    group.throughput(Throughput::Bytes(ARCHIVE_SIZE_BYTES as u64));
    group.bench_function("32 MiB through the compressor", |bencher| bencher.iter(|| archive(&cache, &content)));
    let files_content = &content[..FILES * FILE_SIZE_BYTES];
    group.throughput(Throughput::Bytes(files_content.len() as u64));
    group.bench_function("1000 files of 8 KiB", |bencher| bencher.iter(|| files(&cache, files_content)));
    let wheel_size_bytes = std::fs::metadata(cache.blob_path(wheels[0].1)).expect("it was fetched").len();
    group.throughput(Throughput::Bytes(wheel_size_bytes));
    group.bench_function("numpy's wheel", |bencher| {
        bencher.iter(|| wheel::layer(&cache, &wheels, &scheme, 0).expect("the wheel can be laid out"));
    });
}

criterion_group!(benches, layers);
criterion_main!(benches);
