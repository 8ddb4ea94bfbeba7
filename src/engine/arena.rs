//! Where operators keep rows: columns, so that results are gathered by column, and each row under a number of its own.
//!
//! Rows are appended in chunks. Neighbouring chunks are joined while the newer is at least half as large as the older, so
//! that there are few of them and each row is copied a logarithmic number of times; a row's number stays.

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{concat_batches, interleave, take, take_arrays};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use super::batch::rows_of;

/// The number of a row in an arena.
pub(crate) type RowId = u64;

/// In place of a number: a row of nulls.
pub(crate) const NO_ROW: RowId = RowId::MAX;

/// Chunks are not joined beyond this many rows: copies stay short, and offsets of text columns far from overflow.
const CHUNK_ROWS: usize = 32 * 1024;

/// Rows of one schema.
#[derive(Debug)]
pub(crate) struct Arena {
    schema: SchemaRef,
    /// In the order of their rows' numbers.
    chunks: Vec<Chunk>,
    next: RowId,
}

#[derive(Debug)]
struct Chunk {
    first: RowId,
    /// The greatest event time in it.
    newest: i64,
    rows: RecordBatch,
    bytes: usize,
}

impl Chunk {
    fn new(first: RowId, newest: i64, rows: RecordBatch) -> Self {
        let bytes = rows.get_array_memory_size();
        Chunk { first, newest, rows, bytes }
    }
}

impl Arena {
    pub(crate) fn new(schema: SchemaRef) -> Self {
        Arena { schema, chunks: Vec::new(), next: 0 }
    }

    /// The columns of its rows.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How many rows it holds, those included that nobody wants any more.
    pub(crate) fn len(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.rows.num_rows()).sum()
    }

    /// Memory taken by its rows.
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.bytes).sum()
    }

    /// Copies rows in; they get the numbers from the returned one on, in order. `times` are their event times.
    pub(crate) fn append(&mut self, rows: &RecordBatch, times: &[i64]) -> Result<RowId, ArrowError> {
        let first = self.next;
        if rows.num_rows() == 0 {
            return Ok(first);
        }
        // Copied, so that a few rows never keep the whole batch that they came in.
        let all: UInt32Array = (0..rows.num_rows()).filter_map(|i| u32::try_from(i).ok()).collect();
        let columns = take_arrays(rows.columns(), &all, None)?;
        let rows = rows_of(&self.schema, columns, rows.num_rows())?;
        let newest = times.iter().copied().max().unwrap_or(i64::MIN);
        self.next += rows.num_rows() as RowId;
        self.chunks.push(Chunk::new(first, newest, rows));
        self.join_chunks()?;
        Ok(first)
    }

    fn join_chunks(&mut self) -> Result<(), ArrowError> {
        while let [.., older, newer] = self.chunks.as_slice() {
            let (a, b) = (older.rows.num_rows(), newer.rows.num_rows());
            if b * 2 < a || a + b > CHUNK_ROWS || older.first + a as RowId != newer.first {
                break;
            }
            let joined = concat_batches(&self.schema, [&older.rows, &newer.rows])?;
            let joined = Chunk::new(older.first, older.newest.max(newer.newest), joined);
            self.chunks.truncate(self.chunks.len() - 2);
            self.chunks.push(joined);
        }
        Ok(())
    }

    /// Drops chunks of which all rows are older than `horizon`; nobody may ask for their rows again.
    pub(crate) fn drop_before(&mut self, horizon: i64) {
        self.chunks.retain(|chunk| chunk.newest >= horizon);
    }

    /// Keeps only these rows. They get new numbers: their positions in `rows`, counted from the returned one.
    pub(crate) fn keep(&mut self, rows: &[RowId]) -> Result<RowId, ArrowError> {
        let first = self.next;
        let mut kept = Vec::with_capacity(rows.len() / CHUNK_ROWS + 1);
        for part in rows.chunks(CHUNK_ROWS) {
            let columns = self.gather(part, 0..self.schema.fields().len())?;
            // Nobody drops by time what was kept by name.
            kept.push(Chunk::new(self.next, i64::MAX, rows_of(&self.schema, columns, part.len())?));
            self.next += part.len() as RowId;
        }
        self.chunks = kept;
        Ok(first)
    }

    /// Some columns of these rows; `NO_ROW` and rows that were dropped give nulls.
    pub(crate) fn gather(&self, rows: &[RowId], columns: impl Iterator<Item = usize>) -> Result<Vec<ArrayRef>, ArrowError> {
        let places = self.places(rows);
        let field = |column: usize| self.schema.field(column).data_type();
        if let ([only], Places::One(indices)) = (self.chunks.as_slice(), &places) {
            return columns.map(|column| take(only.rows.column(column), indices, None)).collect();
        }
        let Places::Many(indices) = places else { return Ok(columns.map(|c| new_null_array(field(c), rows.len())).collect()) };
        let gather_one = |column: usize| {
            let null = new_null_array(field(column), 1);
            let mut arrays: Vec<&dyn Array> = self.chunks.iter().map(|chunk| chunk.rows.column(column).as_ref()).collect();
            arrays.push(null.as_ref());
            interleave(&arrays, &indices)
        };
        columns.map(gather_one).collect()
    }

    fn places(&self, rows: &[RowId]) -> Places {
        match self.chunks.as_slice() {
            [] => Places::None,
            [only] => {
                let length = only.rows.num_rows() as RowId;
                let place =
                    |row: &RowId| row.checked_sub(only.first).filter(|at| *at < length).and_then(|at| u32::try_from(at).ok());
                Places::One(rows.iter().map(place).collect())
            }
            chunks => {
                let nowhere = (chunks.len(), 0);
                let place = |row: &RowId| {
                    let chunk = chunks.partition_point(|chunk| chunk.first <= *row).checked_sub(1)?;
                    let at = usize::try_from(*row - chunks.get(chunk)?.first).ok()?;
                    (at < chunks.get(chunk)?.rows.num_rows()).then_some((chunk, at))
                };
                Places::Many(rows.iter().map(|row| place(row).unwrap_or(nowhere)).collect())
            }
        }
    }

    /// Whether two rows have the same values in some columns.
    pub(crate) fn same(&self, a: RowId, b: RowId, counts: impl Fn(usize) -> bool) -> bool {
        let one = |row: RowId| {
            let chunk = self.chunks.get(self.chunks.partition_point(|chunk| chunk.first <= row).checked_sub(1)?)?;
            let at = usize::try_from(row - chunk.first).ok()?;
            (at < chunk.rows.num_rows()).then_some((chunk, at))
        };
        let (Some((a, at_a)), Some((b, at_b))) = (one(a), one(b)) else { return false };
        let columns = a.rows.columns().iter().zip(b.rows.columns()).enumerate().filter(|(column, _)| counts(*column));
        columns.map(|(_, (a, b))| (a.slice(at_a, 1), b.slice(at_b, 1))).all(|(a, b)| a == b)
    }
}

/// Where rows lie.
enum Places {
    /// There is no chunk.
    None,
    /// In the only chunk, or nowhere.
    One(UInt32Array),
    /// (chunk, row); one past the last chunk for nowhere.
    Many(Vec<(usize, usize)>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use std::sync::Arc;

    fn rows(values: &[i64]) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(values.to_vec()))]).unwrap()
    }

    fn gathered(arena: &Arena, ids: &[RowId]) -> Vec<Option<i64>> {
        arena.gather(ids, 0..1).unwrap()[0].as_primitive::<Int64Type>().iter().collect()
    }

    #[test]
    fn rows_keep_their_numbers_while_chunks_are_joined() {
        let mut arena = Arena::new(rows(&[]).schema());
        assert_eq!(gathered(&arena, &[0, NO_ROW]), vec![None, None]);
        for n in 0..100 {
            assert_eq!(arena.append(&rows(&[n]), &[n]).unwrap(), n as RowId);
            assert_eq!(gathered(&arena, &[n as RowId, NO_ROW, 0, 1000]), vec![Some(n), None, Some(0), None]);
        }
        assert!(arena.chunks.len() < 8, "{}", arena.chunks.len());
        assert_eq!(arena.len(), 100);
    }

    #[test]
    fn what_is_old_is_dropped_and_what_is_kept_is_renumbered() {
        let mut arena = Arena::new(rows(&[]).schema());
        arena.append(&rows(&[1, 2, 3, 4]), &[1, 2, 3, 4]).unwrap();
        arena.append(&rows(&[5]), &[5]).unwrap();
        arena.drop_before(5);
        assert_eq!(arena.len(), 1);
        assert_eq!(gathered(&arena, &[3, 4]), vec![None, Some(5)]);
        arena.append(&rows(&[6]), &[6]).unwrap();
        let first = arena.keep(&[5, 4]).unwrap();
        assert_eq!(gathered(&arena, &[first, first + 1, 5]), vec![Some(6), Some(5), None]);
        let same = |a, b| arena.same(a, b, |_| true);
        assert!(same(first, first) && !same(first, first + 1) && !same(first, NO_ROW));
        assert!(arena.same(first, first + 1, |_| false));
    }
}
