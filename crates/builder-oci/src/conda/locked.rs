//! Conda packages in the lock of a spec. Pure.

use imagespec_core::lock::LockedCondaPackage;

use super::solution::{Solution, SolvedPackage};

impl Solution {
    /// What was chosen earlier; nothing if an address is none.
    pub(crate) fn of_lock(locked: &[LockedCondaPackage]) -> Option<Self> {
        let packages = locked.iter().map(|package| {
            Some(SolvedPackage {
                name: package.name.clone(),
                version: package.version.clone(),
                build: package.build.clone(),
                subdir: package.subdir.clone(),
                url: package.url.parse().ok()?,
                sha256: package.sha256,
                size_bytes: package.size,
                site_packages: None,
            })
        });
        let mut packages = packages.collect::<Option<Vec<_>>>()?;
        packages.sort_by(|left, right| left.name.cmp(&right.name));
        Some(Self { packages })
    }

    /// The same for a lock file.
    pub(crate) fn lock(&self) -> Vec<LockedCondaPackage> {
        let packages = self.packages.iter().map(|package| LockedCondaPackage {
            name: package.name.clone(),
            version: package.version.clone(),
            build: package.build.clone(),
            subdir: package.subdir.clone(),
            url: package.url.to_string(),
            sha256: package.sha256,
            size: package.size_bytes,
        });
        packages.collect()
    }
}
