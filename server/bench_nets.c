/* bench_nets.c: the networks that `backpropd bench` measures; tests/bench/torch_peer.py has the
 * same in PyTorch. */
#include "bench.h"

#include <stddef.h>

#define SGD  "\"optimizer\":{\"op\":\"sgd\",\"lr\":0.01,\"momentum\":0.9}"
#define RELU "{\"op\":\"relu\"},"
#define POOL "{\"op\":\"max_pool2d\",\"kernel_size\":2},"
#define CONV(channels)                                                                             \
    "{\"op\":\"conv2d\",\"out_channels\":" #channels ",\"kernel_size\":3,\"padding\":1,"           \
    "\"bias\":false},{\"op\":\"batch_norm2d\"}," RELU

/* Templates clip; with a bound that is never reached the gradients' norm is computed, as always,
 * and that is all. */
#define NO_CLIP "\"clip_grad_norm\":1e9"

/* A detector learns here to give three maps that are given: what its operators cost, without the
 * search for who is responsible for which box. */
#define MAP(number)                                                                                \
    "{\"op\":\"mse\",\"input\":\"p" #number "\",\"target\":\"t" #number "\",\"name\":\"l" #number  \
    "\"}"

const struct bench_net bench_nets[] = {
    {"mlp", "784-512-256-10", 64,
     "{\"template\":{\"name\":\"mlp\",\"in_features\":784,\"hidden\":[512,256],"
     "\"out_features\":10}," SGD "}"},
    {"lenet", "LeNet-5, 28x28", 64, "{\"template\":\"lenet5\"," SGD "}"},
    {"cifar", "CNN with batch norm, 32x32", 64,
     "{\"inputs\":[{\"name\":\"image\",\"shape\":[-1,3,32,32]}],\"layers\":[" CONV(64) CONV(64)
         POOL CONV(128) CONV(128) POOL
     "{\"op\":\"flatten\"},{\"op\":\"linear\",\"out_features\":256}," RELU
     "{\"op\":\"linear\",\"out_features\":10}],\"loss\":{\"op\":\"cross_entropy\"}," SGD "}"},
    {"resnet18", "ResNet-18 for CIFAR, 32x32", 64,
     "{\"template\":{\"name\":\"resnet18\",\"stem\":\"cifar\",\"image_size\":32,"
     "\"num_classes\":10}," SGD "}"},
    {"resnet18_224", "ResNet-18, 224x224", 8,
     "{\"template\":{\"name\":\"resnet18\",\"num_classes\":1000}," SGD "}"},
    {"char_gpt", "GPT of 4 blocks, width 128, 128 characters", 16,
     "{\"template\":\"char_gpt\"," NO_CLIP ","
     "\"optimizer\":{\"op\":\"adamw\",\"lr\":0.001}}"},
    {"yolo_n", "YOLOv8n, 320x320", 4,
     "{\"template\":{\"name\":\"yolo\",\"size\":\"n\",\"image_size\":320},"
     "\"losses\":[" MAP(3) "," MAP(4) "," MAP(5) "],\"targets\":[{\"name\":\"t3\"},"
                                                 "{\"name\":\"t4\"},{\"name\":\"t5\"}]," NO_CLIP
                                                 "," SGD "}"},
    {0},
};
