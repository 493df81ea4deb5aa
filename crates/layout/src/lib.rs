//! Images on disk: OCI image layouts, written and read, and the archive that `docker load` takes. Whatever goes wrong,
//! nothing half-made has a name. Knows neither builders nor their caches: whoever writes says where layers are read from.

mod archive;
mod image;
mod media_type;
mod read;
mod saved;
mod verify;
mod write;

pub use archive::{Archive, check_archive, write_archive};
pub use image::{Image, Stored};
pub use media_type::{CONFIG, Compression, INDEX, MANIFEST};
pub use read::{ReadError, blob_path, open_blob, read_image, read_layout};
pub use saved::{Saved, SavedError};
pub use write::{LayoutError, Observer, Open, check_layout, write_aside, write_layout};
