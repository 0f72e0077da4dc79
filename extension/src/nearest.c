#include "nearest.h"

#include "candidates.h"
#include "nearest_kernel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 64, LINE = 64, PREFETCHED = 8 };
static const double BEYOND = 1e4;

// A row whose distance was computed; NaN, which is beyond every number, is kept as infinity.
struct looked {
	double distance;
	int64_t position, row_id;
};

struct search {
	const struct vector_index *index;
	const struct vector_query *ask;
	const struct nearest_kernel *kernel;
	struct route route;
	struct candidates candidates;
	struct turned_query turned;
	float *placed;      // the query in the space of the metric [width]
	float *turned_rows; // and where the centroids are [width]
	float *distances;   // [n_lists]
	double *best;       // [k] distances, ascending, infinite where there are fewer
	float *squared;     // [k] the same in the space of the metric
	struct looked *looked;
	size_t n_looked, n_room, vector_bytes;
	double length;
	int64_t n_rows; // that were found
	struct vector_found *found;
};

static bool search_open(struct search *s) {
	const struct vector_index *index = s->index;
	size_t k = s->ask->k, n_words = (index->width + WORD_BITS - 1) / WORD_BITS, most = s->ask->n_candidates;
	s->route = (struct route){malloc(index->n_lists * sizeof(uint64_t)), index->n_lists, 0};
	s->candidates = (struct candidates){0, most, malloc(most * sizeof(int64_t)), malloc(most * sizeof(struct candidate))};
	s->turned = (struct turned_query){.n_words = n_words,
	                                  .planes = malloc(PLANES * n_words * sizeof(uint64_t)),
	                                  .shifted = malloc(n_words * WORD_BITS),
	                                  .residual = malloc(index->width * sizeof(float))};
	s->placed = malloc(index->width * sizeof(float));
	s->turned_rows = malloc(index->width * sizeof(float));
	s->distances = malloc(index->n_lists * sizeof(float));
	s->best = malloc(k * sizeof(double));
	s->squared = malloc(k * sizeof(float));
	s->n_room = most + k;
	s->looked = malloc(s->n_room * sizeof(struct looked));
	for (size_t i = 0; s->best && i < k; i++) {
		s->best[i] = INFINITY;
	}
	return s->route.keys && s->candidates.position && s->candidates.entry && s->turned.planes && s->turned.shifted &&
	       s->turned.residual && s->placed && s->turned_rows && s->distances && s->best && s->squared && s->looked;
}

static void search_close(struct search *s) {
	void *all[] = {s->route.keys,       s->candidates.position, s->candidates.entry, s->turned.planes, s->turned.shifted,
	               s->turned.residual,  s->placed, s->turned_rows,         s->distances,        s->best,          s->squared,
	               s->looked};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		free(all[i]);
	}
}

// As Space.queries of skipml/ann/metric.py places a query.
static void place(struct search *s) {
	const struct vector_index *index = s->index;
	const float *query = s->ask->query;
	double limit = BEYOND * fmax(index->longest, 1), length = s->length > 0 ? s->length : 1;
	for (size_t i = 0; i < index->dimension; i++) {
		float unit = (float)((double)query[i] / length);
		double scaled = (double)query[i] * index->scale;
		s->placed[i] = index->metric == METRIC_L2   ? (float)fmax(fmin(scaled, limit), -limit)
		               : index->metric == METRIC_IP ? unit * (float)index->longest
		                                            : unit;
	}
	if (index->metric == METRIC_IP) {
		s->placed[index->dimension] = 0;
	}
}

static void find_route(struct search *s) {
	const struct vector_index *index = s->index;
	if (index->rotation) {
		s->kernel->products(index->rotation, index->width, index->width, s->placed, s->turned_rows);
	} else {
		memcpy(s->turned_rows, s->placed, index->width * sizeof(float));
	}
	s->kernel->squared(index->centroids, index->n_lists, index->width, s->turned_rows, s->distances);
	route_make(&s->route, s->distances);
}

// Those that are still among the k best stay; there may be no room for others.
static bool make_room(struct search *s) {
	size_t n = 0;
	for (size_t i = 0; i < s->n_looked; i++) {
		if (s->looked[i].distance <= s->best[s->ask->k - 1]) {
			s->looked[n++] = s->looked[i];
		}
	}
	s->n_looked = n;
	if (2 * n > s->n_room) {
		struct looked *more = realloc(s->looked, 2 * s->n_room * sizeof *more);
		if (!more) {
			return false;
		}
		s->looked = more;
		s->n_room *= 2;
	}
	return true;
}

// Compute the distance of a row, at a position among all segments, and keep it if it may be one of the k nearest.
static bool look_at(struct search *s, const uint8_t *vector, int64_t position) {
	const struct vector_index *index = s->index;
	double distance = nearest_distance(s->kernel, index->metric, index->is_int8, s->ask->query, s->length, vector,
	                                   index->dimension);
	double far = isnan(distance) ? INFINITY : distance;
	s->found->vectors++;
	if (far > s->best[s->ask->k - 1]) {
		return true;
	}
	for (size_t i = 0; s->index->code_bytes && i < s->n_looked; i++) {
		if (s->looked[i].position == position) {
			return true; // it was pushed out of the candidates and has come back by its other list
		}
	}
	if (s->n_looked == s->n_room && !make_room(s)) {
		return false;
	}
	s->looked[s->n_looked++] = (struct looked){far, position, 0};
	size_t place = s->ask->k - 1;
	for (; place && s->best[place - 1] > far; place--) {
		s->best[place] = s->best[place - 1];
	}
	s->best[place] = far;
	return true;
}

// Add the codes of a list to the candidates; false where one belongs to a row that does not exist.
static bool scan_codes(struct search *s, const struct vector_segment *segment, size_t list, int64_t start) {
	const struct vector_index *index = s->index;
	const uint8_t *codes = segment->codes + segment->code[list], *places = segment->codes + segment->positions[list];
	size_t n = (size_t)segment->code_counts[list];
	int64_t n_rows = segment->starts[index->n_lists];
	for (size_t first = 0; first < n; first += BLOCK) {
		float estimates[BLOCK];
		size_t count = n - first < BLOCK ? n - first : BLOCK;
		s->kernel->estimate(&s->turned, codes + first * index->code_bytes, count, index->code_bytes, estimates);
		for (size_t i = 0; i < count; i++) {
			if (!(estimates[i] < candidates_limit(&s->candidates))) {
				continue;
			}
			int32_t position;
			memcpy(&position, places + (first + i) * sizeof position, sizeof position);
			if (position < 0 || position >= n_rows) {
				return false;
			}
			if (!segment->n_deleted || !row_is_deleted(segment, position)) {
				candidates_add(&s->candidates, estimates[i], start + position);
			}
		}
	}
	s->found->scanned += (int64_t)n;
	s->found->bytes += (int64_t)(n * index->code_bytes);
	return true;
}

static bool scan_vectors(struct search *s, const struct vector_segment *segment, size_t list, int64_t start) {
	const uint8_t *vectors = segment->rows + segment->vectors[list];
	int64_t first = segment->starts[list], end = segment->starts[list + 1];
	for (int64_t position = first; position < end; position++) {
		if (segment->n_deleted && row_is_deleted(segment, position)) {
			continue;
		}
		s->n_rows++;
		if (!look_at(s, vectors + (size_t)(position - first) * s->vector_bytes, start + position)) {
			return false;
		}
	}
	s->found->scanned += end - first;
	return true;
}

static enum nearest_status read_lists(struct search *s, size_t from, size_t upto) {
	const struct vector_index *index = s->index;
	route_sort(&s->route, upto);
	for (size_t rank = from; rank < upto; rank++) {
		size_t list = route_list(&s->route, rank);
		if (index->code_bytes) {
			const float *centroid = index->centroids + list * index->width;
			s->kernel->turn(s->turned_rows, centroid, index->width, s->distances[list], &s->turned);
		}
		int64_t start = 0;
		for (size_t i = 0; i < index->n_segments; i++) {
			const struct vector_segment *segment = index->segments + i;
			if (index->code_bytes && segment->code_counts[list] && !scan_codes(s, segment, list, start)) {
				return NEAREST_DAMAGED;
			}
			if (!index->code_bytes && !scan_vectors(s, segment, list, start)) {
				return NEAREST_NO_MEMORY;
			}
			start += segment->starts[index->n_lists];
		}
	}
	s->found->lists = (int64_t)upto;
	return NEAREST_FOUND;
}

static const uint8_t *vector_at(const struct search *s, int64_t position) {
	const struct vector_segment *segment = segment_of(s->index, &position);
	return row_value(s->index, segment, segment->vectors, s->vector_bytes, position);
}

// Compute the distances of the candidates that have none; the vectors lie anywhere, so some are asked for ahead.
static bool look_at_candidates(struct search *s) {
	const uint8_t *ahead[PREFETCHED] = {NULL};
	int64_t position[PREFETCHED] = {0};
	size_t n = 0, done = 0;
	for (size_t i = 0; i <= s->candidates.n; i++) {
		bool is_end = i == s->candidates.n;
		if (!is_end && s->candidates.entry[i].is_looked_at) {
			continue;
		}
		while (done < n && (is_end || n - done == PREFETCHED)) {
			if (!look_at(s, ahead[done % PREFETCHED], position[done % PREFETCHED])) {
				return false;
			}
			done++;
		}
		if (!is_end) {
			s->candidates.entry[i].is_looked_at = true;
			position[n % PREFETCHED] = s->candidates.position[i];
			const uint8_t *vector = ahead[n % PREFETCHED] = vector_at(s, s->candidates.position[i]);
			for (size_t byte = 0; byte < s->vector_bytes; byte += LINE) {
				__builtin_prefetch(vector + byte);
			}
			n++;
		}
	}
	return true;
}

// The best distances as squared ones of the space, as `squared` of skipml/ann/search.py has them.
static void square_best(struct search *s) {
	const struct vector_index *index = s->index;
	double longest = index->longest, ip = longest * index->scale / (s->length > 0 ? s->length : 1);
	for (size_t i = 0; i < s->ask->k; i++) {
		double far = s->best[i], scaled = far * index->scale;
		s->squared[i] = (float)(index->metric == METRIC_L2   ? scaled * scaled
		                        : index->metric == METRIC_IP ? fmax(2 * (longest * longest + ip * far), 0)
		                                                     : 2 * far);
	}
}

static enum nearest_status read_on(struct search *s, const struct stop_rule *rule) {
	const struct vector_index *index = s->index;
	size_t read = 0, target = rule_first(rule, &s->route);
	for (target = target > 0 ? target : 1; target > read;) {
		target = target < index->n_lists ? target : index->n_lists;
		enum nearest_status status = read_lists(s, read, target);
		if (status) {
			return status;
		}
		read = target;
		if (index->code_bytes && !look_at_candidates(s)) {
			return NEAREST_NO_MEMORY;
		}
		square_best(s);
		size_t n_rows = index->code_bytes ? s->candidates.n : (size_t)s->n_rows;
		target = rule_more(rule, &s->route, read, s->squared, s->ask->k);
		if (n_rows < s->ask->k && target < 2 * read) {
			target = 2 * read;
		}
		target = target < index->n_lists ? target : index->n_lists;
	}
	return NEAREST_FOUND;
}

static int by_distance(const void *left, const void *right) {
	const struct looked *a = left, *b = right;
	if (a->distance != b->distance) {
		return a->distance < b->distance ? -1 : 1;
	}
	return (a->row_id > b->row_id) - (a->row_id < b->row_id);
}

// The k nearest of the rows looked at; the row numbers of equal ones decide.
static bool rank(struct search *s) {
	if (!make_room(s)) {
		return false;
	}
	for (size_t i = 0; i < s->n_looked; i++) {
		int64_t position = s->looked[i].position;
		const struct vector_segment *segment = segment_of(s->index, &position);
		memcpy(&s->looked[i].row_id, row_value(s->index, segment, segment->row_ids, sizeof(int64_t), position),
		       sizeof(int64_t));
	}
	qsort(s->looked, s->n_looked, sizeof *s->looked, by_distance);
	size_t n = s->n_looked < s->ask->k ? s->n_looked : s->ask->k;
	for (size_t i = 0; i < n; i++) {
		s->found->position[i] = s->looked[i].position;
		s->found->row_id[i] = s->looked[i].row_id;
		int64_t place = s->looked[i].position;
		const struct vector_segment *segment = segment_of(s->index, &place);
		s->found->list[i] = (int64_t)list_of(s->index, segment, place);
		s->found->distance[i] = isinf(s->looked[i].distance) ? NAN : s->looked[i].distance;
	}
	s->found->n = (int64_t)n;
	s->found->bytes += s->found->vectors * (int64_t)s->vector_bytes;
	return true;
}

enum nearest_status nearest_search(const struct vector_index *index, const struct stop_rule *rule,
                                   const struct vector_query *ask, struct vector_found *found) {
	const struct nearest_kernel *usable[N_ISAS];
	nearest_kernels_usable(usable);
	struct search s = {.index = index, .ask = ask, .kernel = usable[0], .found = found};
	enum nearest_status status = NEAREST_NO_MEMORY;
	if (search_open(&s)) {
		s.vector_bytes = index->dimension * (index->is_int8 ? 1 : sizeof(float));
		s.length = query_length(s.kernel, ask->query, index->dimension);
		status = NEAREST_NOT_FINITE;
	}
	if (status == NEAREST_NOT_FINITE && isfinite(s.length)) {
		place(&s);
		find_route(&s);
		status = read_on(&s, rule);
		if (!status && !rank(&s)) {
			status = NEAREST_NO_MEMORY;
		}
	}
	search_close(&s);
	return status;
}
