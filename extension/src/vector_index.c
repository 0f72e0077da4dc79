#include "vector_index.h"

static bool lists_fit(const struct vector_index *index, const int64_t *counts, const int64_t *starts, const int64_t *offsets,
                      size_t bytes, size_t size) {
	for (size_t i = 0; i < index->n_lists; i++) {
		int64_t count = counts ? counts[i] : starts[i + 1] - starts[i];
		if (count < 0 || (uint64_t)count > size / bytes) {
			return false;
		}
		if (count && (offsets[i] < 0 || (uint64_t)offsets[i] > size - (size_t)count * bytes)) {
			return false;
		}
	}
	return true;
}

bool vector_index_fits(const struct vector_index *index) {
	size_t vector_bytes = index->dimension * (index->is_int8 ? 1 : sizeof(float));
	for (size_t s = 0; s < index->n_segments; s++) {
		const struct vector_segment *one = index->segments + s;
		bool fits = lists_fit(index, NULL, one->starts, one->vectors, vector_bytes, one->rows_size) &&
		            lists_fit(index, NULL, one->starts, one->row_ids, sizeof(int64_t), one->rows_size);
		if (fits && one->codes) {
			fits = lists_fit(index, one->code_counts, NULL, one->code, index->code_bytes, one->codes_size) &&
			       lists_fit(index, one->code_counts, NULL, one->positions, sizeof(int32_t), one->codes_size);
		}
		if (!fits || one->starts[0] != 0) {
			return false;
		}
	}
	return true;
}

size_t list_of(const struct vector_index *index, const struct vector_segment *segment, int64_t position) {
	size_t low = 0, high = index->n_lists; // starts[low] <= position < starts[high]
	while (high - low > 1) {
		size_t middle = (low + high) / 2;
		if (segment->starts[middle] <= position) {
			low = middle;
		} else {
			high = middle;
		}
	}
	return low;
}

const uint8_t *row_value(const struct vector_index *index, const struct vector_segment *segment,
                         const int64_t *offsets, size_t bytes, int64_t position) {
	size_t list = list_of(index, segment, position);
	return segment->rows + offsets[list] + (position - segment->starts[list]) * (int64_t)bytes;
}

bool row_is_deleted(const struct vector_segment *segment, int64_t position) {
	size_t low = 0, high = segment->n_deleted;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (segment->deleted[middle] < position) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	return low < segment->n_deleted && segment->deleted[low] == position;
}

const struct vector_segment *segment_of(const struct vector_index *index, int64_t *position) {
	const struct vector_segment *segment = index->segments;
	while (*position >= segment->starts[index->n_lists]) {
		*position -= segment->starts[index->n_lists];
		segment++;
	}
	return segment;
}
