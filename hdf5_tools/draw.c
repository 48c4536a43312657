#include "hdf5_tools/draw.h"

#include <math.h>
#include <stdbool.h>

#include "base/random.h"

static const double PI = 3.14159265358979323846;

// How much pictures of a class vary. Chosen so that conv12 needs several epochs, and some pictures
// stay hard.
static const double PLACE = 0.12;                         // of the centre, each way, in sides
static const double RADIUS_LOW = 0.22, RADIUS_HIGH = 0.4; // in sides
static const double TURN = 0.5;                           // radians, each way
static const double HUE = 90; // degrees around a texture's own, each way
static const double GROUND_SATURATION = 0.25;
static const double CLOUDS_HIGH = 0.15, NOISE_HIGH = 0.06;

const char *draw_shape_name(int shape)
{
    static const char *const names[DRAW_SHAPES] = {
        "disc", "square", "triangle", "ring", "cross", "crescent", "star", "bar", "wedge", "pair"};
    return names[shape];
}

const char *draw_texture_name(int texture)
{
    static const char *const names[DRAW_TEXTURES] = {"striped", "checked", "dotted",  "plain",
                                                     "ringed",  "shaded",  "mottled", "hatched"};
    return names[texture];
}

// A stream of random numbers for one picture.
struct dice {
    const struct drawing *drawing;
    uint64_t drawn;
    struct random_block block;
};

static uint32_t dice_word(struct dice *d)
{
    if (d->drawn % 4 == 0)
        d->block = random_draw(d->drawing->seed, RANDOM_SYNTH, d->drawing->split,
                               d->drawing->number << 24 | d->drawn / 4);
    return d->block.v[d->drawn++ % 4];
}

static double dice_range(struct dice *d, double low, double high)
{
    return low + (high - low) * random_unit(dice_word(d));
}

struct colour {
    double rgb[3]; // in [0, 1]
};

static struct colour mix(struct colour a, struct colour b, double t)
{
    for (int c = 0; c < 3; c++)
        a.rgb[c] += (b.rgb[c] - a.rgb[c]) * t;
    return a;
}

static struct colour random_colour(struct dice *d)
{
    struct colour out;
    for (int c = 0; c < 3; c++)
        out.rgb[c] = dice_range(d, 0, 1);
    return out;
}

// Hue in degrees, saturation and value in [0, 1] (Smith 1978).
static struct colour hue_colour(double hue, double saturation, double value)
{
    struct colour out;
    static const double offset[3] = {5, 3, 1};
    for (int c = 0; c < 3; c++) {
        double k = fmod(offset[c] + hue / 60 + 12, 6);
        double ramp = fmin(fmin(k, 4 - k), 1);
        out.rgb[c] = value - value * saturation * (ramp > 0 ? ramp : 0);
    }
    return out;
}

// Smooth noise: random values on a grid, interpolated.
enum { GRID = 6 };
struct clouds {
    double value[GRID + 1][GRID + 1]; // in [-1, 1]
};

static struct clouds random_clouds(struct dice *d)
{
    struct clouds out;
    for (int i = 0; i <= GRID; i++)
        for (int j = 0; j <= GRID; j++)
            out.value[i][j] = dice_range(d, -1, 1);
    return out;
}

// x, y in [0, 1).
static double clouds_at(const struct clouds *c, double x, double y)
{
    int i = (int)(y * GRID), j = (int)(x * GRID);
    double v = y * GRID - i, u = x * GRID - j;
    v = v * v * (3 - 2 * v);
    u = u * u * (3 - 2 * u);
    double top = c->value[i][j] + (c->value[i][j + 1] - c->value[i][j]) * u;
    double bottom = c->value[i + 1][j] + (c->value[i + 1][j + 1] - c->value[i + 1][j]) * u;
    return top + (bottom - top) * v;
}

static bool inside_star(double x, double y)
{
    const double fifth = 2 * PI / 5;
    double angle = fabs(remainder(atan2(x, -y), fifth)); // from the nearest point of the star
    double tip_x = 1.0, inner = 0.42;
    double px = hypot(x, y) * cos(angle), py = hypot(x, y) * sin(angle);
    double ix = inner * cos(fifth / 2), iy = inner * sin(fifth / 2);
    // Left of the edge from the tip (1, 0) to the notch (ix, iy).
    return (ix - tip_x) * py - iy * (px - tip_x) >= 0;
}

// Whether (x, y), in the shape's own frame where it fits the unit disc, lies inside.
static bool inside(int shape, double x, double y)
{
    double r = hypot(x, y);
    switch (shape) {
    case 0: // disc
        return r < 0.85;
    case 1: // square
        return fabs(x) < 0.72 && fabs(y) < 0.72;
    case 2: // triangle
        return y < 0.5 && -0.5 * y + 0.866 * fabs(x) < 0.5;
    case 3: // ring
        return r < 0.95 && r > 0.5;
    case 4: // cross
        return (fabs(x) < 0.3 && fabs(y) < 0.95) || (fabs(y) < 0.3 && fabs(x) < 0.95);
    case 5: // crescent
        return r < 0.95 && hypot(x - 0.45, y) > 0.75;
    case 6: // star
        return inside_star(x, y);
    case 7: // bar
        return fabs(x) < 0.97 && fabs(y) < 0.3;
    case 8: // wedge: a disc without a quarter
        return r < 0.9 && !(x > 0 && fabs(y) < x);
    default: // pair of discs
        return hypot(x - 0.5, y) < 0.42 || hypot(x + 0.5, y) < 0.42;
    }
}

enum { SHADED = 5 };

// How much of the second colour there is at (x, y) pixels in the texture's own frame.
static double texture_at(int texture, double x, double y, double period, const struct clouds *c)
{
    double u = x / period, v = y / period;
    switch (texture) {
    case 0: // striped
        return u - floor(u) < 0.5;
    case 1: // checked
        return ((int)floor(2 * u) + (int)floor(2 * v)) & 1;
    case 2: // dotted
        return hypot(u - floor(u) - 0.5, v - floor(v) - 0.5) < 0.33;
    case 3: // plain
        return 0;
    case 4: { // ringed
        double r = hypot(u, v);
        return r - floor(r) < 0.5;
    }
    case SHADED:
        return 0.5 + 0.5 * tanh(0.35 * u);
    case 6: { // mottled
        double cx = u / 4 - floor(u / 4), cy = v / 4 - floor(v / 4);
        return clouds_at(c, cx, cy) > 0;
    }
    default: // hatched
        return u - floor(u) < 0.25 || v - floor(v) < 0.25;
    }
}

// Small things that belong to no class: strokes and blots.
enum { DISTRACTORS = 4 };
struct distractor {
    double x0, y0, dx, dy, radius; // pixels; a blot has no length
    struct colour colour;
};

static struct distractor random_distractor(struct dice *d, double size)
{
    struct distractor out = {0};
    out.x0 = dice_range(d, 0, size);
    out.y0 = dice_range(d, 0, size);
    double length = dice_range(d, -1, 1) > 0 ? dice_range(d, 0.1, 0.4) * size : 0;
    double angle = dice_range(d, 0, 2 * PI);
    out.dx = length * cos(angle);
    out.dy = length * sin(angle);
    out.radius = dice_range(d, 0.01, 0.05) * size;
    out.colour = random_colour(d);
    return out;
}

static bool distractor_covers(const struct distractor *o, double x, double y)
{
    double px = x - o->x0, py = y - o->y0;
    double length2 = o->dx * o->dx + o->dy * o->dy;
    double t = length2 > 0 ? (px * o->dx + py * o->dy) / length2 : 0;
    t = t < 0 ? 0 : t > 1 ? 1 : t;
    return hypot(px - t * o->dx, py - t * o->dy) < o->radius;
}

// All that varies between pictures of a class.
struct scene {
    double size, centre_x, centre_y, cosine, sine, radius_x, radius_y;
    double texture_cosine, texture_sine, period, phase;
    struct colour ground[2], shape[2];
    double ground_x, ground_y; // direction of the ground's gradient
    double cloudiness, brightness, contrast, noise;
    struct clouds clouds, mottle;
    struct distractor distractors[DISTRACTORS];
    int behind; // so many distractors are behind the shape, the others in front
};

static struct scene random_scene(struct dice *d, const struct drawing *drawing)
{
    const double size = drawing->size;
    struct scene s = {.size = size};
    s.centre_x = dice_range(d, 0.5 - PLACE, 0.5 + PLACE) * size;
    s.centre_y = dice_range(d, 0.5 - PLACE, 0.5 + PLACE) * size;
    double radius = dice_range(d, RADIUS_LOW, RADIUS_HIGH) * size;
    double aspect = dice_range(d, 0.85, 1.18);
    s.radius_x = radius * sqrt(aspect);
    s.radius_y = radius / sqrt(aspect);
    double turn = dice_range(d, -TURN, TURN), texture_turn = dice_range(d, 0, 2 * PI);
    s.cosine = cos(turn);
    s.sine = sin(turn);
    s.texture_cosine = cos(texture_turn);
    s.texture_sine = sin(texture_turn);
    s.period = dice_range(d, 0.1, 0.17) * size;
    s.phase = dice_range(d, 0, size);
    double ground = dice_range(d, 0.25, 0.6);
    s.ground[0] = hue_colour(dice_range(d, 0, 360), GROUND_SATURATION, ground);
    s.ground[1] =
        hue_colour(dice_range(d, 0, 360), GROUND_SATURATION, ground + dice_range(d, -0.15, 0.15));
    // A texture has a family of colours: neighbours in the circle of hues overlap.
    double hue = 45.0 * (5 * drawing->texture % DRAW_TEXTURES) + dice_range(d, -HUE, HUE);
    s.shape[0] = hue_colour(hue, dice_range(d, 0.5, 1), dice_range(d, 0.75, 1));
    s.shape[1] =
        hue_colour(hue + dice_range(d, -25, 25), dice_range(d, 0.5, 1), dice_range(d, 0.05, 0.35));
    double slope = dice_range(d, 0, 2 * PI);
    s.ground_x = cos(slope);
    s.ground_y = sin(slope);
    s.cloudiness = dice_range(d, 0.02, CLOUDS_HIGH);
    s.brightness = dice_range(d, -0.12, 0.12);
    s.contrast = dice_range(d, 0.7, 1.1);
    s.noise = dice_range(d, 0.01, NOISE_HIGH);
    s.clouds = random_clouds(d);
    s.mottle = random_clouds(d);
    for (int i = 0; i < DISTRACTORS; i++)
        s.distractors[i] = random_distractor(d, size);
    s.behind = (int)dice_range(d, 2, DISTRACTORS + 1);
    return s;
}

// The colour at a point, in pixels.
static struct colour scene_at(const struct scene *s, const struct drawing *d, double x, double y)
{
    double dx = x - s->centre_x, dy = y - s->centre_y;
    double along = 0.5 + ((x / s->size - 0.5) * s->ground_x + (y / s->size - 0.5) * s->ground_y);
    struct colour out = mix(s->ground[0], s->ground[1], along);
    double cloud = s->cloudiness * clouds_at(&s->clouds, x / s->size, y / s->size);
    for (int c = 0; c < 3; c++)
        out.rgb[c] += cloud;
    for (int i = 0; i < s->behind; i++)
        if (distractor_covers(&s->distractors[i], x, y))
            out = s->distractors[i].colour;
    double u = (s->cosine * dx + s->sine * dy) / s->radius_x;
    double v = (s->cosine * dy - s->sine * dx) / s->radius_y;
    if (inside(d->shape, u, v)) {
        double tx = s->texture_cosine * dx + s->texture_sine * dy;
        if (d->texture != SHADED) // which would be one colour far from its middle
            tx += s->phase;
        double ty = s->texture_cosine * dy - s->texture_sine * dx;
        out = mix(s->shape[0], s->shape[1], texture_at(d->texture, tx, ty, s->period, &s->mottle));
    }
    for (int i = s->behind; i < DISTRACTORS; i++)
        if (distractor_covers(&s->distractors[i], x, y))
            out = s->distractors[i].colour;
    return out;
}

static uint8_t to_byte(double value)
{
    return value <= 0 ? 0 : value >= 1 ? 255 : (uint8_t)(value * 255 + 0.5);
}

void draw_picture(const struct drawing *d, uint8_t *pixels)
{
    struct dice dice = {.drawing = d};
    const struct scene s = random_scene(&dice, d);
    for (int i = 0; i < d->size; i++)
        for (int j = 0; j < d->size; j++) {
            struct colour sum = {{0, 0, 0}};
            for (int part = 0; part < 4; part++) { // four points a pixel soften the edges
                struct colour at =
                    scene_at(&s, d, j + 0.25 + 0.5 * (part & 1), i + 0.25 + 0.25 * (part & 2));
                for (int c = 0; c < 3; c++)
                    sum.rgb[c] += at.rgb[c] / 4;
            }
            for (int c = 0; c < 3; c++) {
                // The sum of two uniform numbers: noise of a deviation of s.noise.
                double noise =
                    s.noise * sqrt(1.5) * (dice_range(&dice, -1, 1) + dice_range(&dice, -1, 1));
                double value = 0.5 + s.contrast * (sum.rgb[c] - 0.5) + s.brightness + noise;
                *pixels++ = to_byte(value);
            }
        }
}
