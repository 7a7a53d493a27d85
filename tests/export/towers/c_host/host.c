/* Loads a user tower through TensorFlow's C API, without any Python, and encodes one history.
 *
 *   host <SavedModel> <input operation> <output operation> <vectors' output> <version's output> <id>...
 *
 * The names are those of the signature, as `saved_model_cli show` prints them. The input takes int64 or
 * string [1, number of ids]. Prints the version, then the numbers of the vector, one a line.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"

static void check(TF_Status *status, const char *doing) {
  if (TF_GetCode(status) != TF_OK) {
    fprintf(stderr, "error: %s: %s\n", doing, TF_Message(status));
    exit(1);
  }
}

static TF_Output output(TF_Graph *graph, const char *operation, int index) {
  TF_Output found = {TF_GraphOperationByName(graph, operation), index};
  if (found.oper == NULL) {
    fprintf(stderr, "error: the graph has no operation %s\n", operation);
    exit(1);
  }
  return found;
}

static TF_Tensor *history(TF_DataType type, int count, char **ids) {
  const int64_t shape[] = {1, count};
  if (type == TF_INT64) {
    TF_Tensor *tensor = TF_AllocateTensor(type, shape, 2, count * sizeof(int64_t));
    int64_t *values = TF_TensorData(tensor);
    for (int i = 0; i < count; i++) values[i] = atoll(ids[i]);
    return tensor;
  }
  TF_Tensor *tensor = TF_AllocateTensor(type, shape, 2, count * sizeof(TF_TString));
  TF_TString *values = TF_TensorData(tensor);
  for (int i = 0; i < count; i++) {
    TF_StringInit(&values[i]);
    TF_StringCopy(&values[i], ids[i], strlen(ids[i]));
  }
  return tensor;
}

int main(int count, char **arguments) {
  if (count < 7) {
    fprintf(stderr, "error: wanted <SavedModel> <input> <output> <vectors> <version> <id>...\n");
    return 2;
  }
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  const char *tags[] = {"serve"};
  TF_Session *session = TF_LoadSessionFromSavedModel(options, NULL, arguments[1], tags, 1, graph, NULL, status);
  check(status, "loading");

  TF_Output input = output(graph, arguments[2], 0);
  TF_Output wanted[] = {output(graph, arguments[3], atoi(arguments[4])),
                        output(graph, arguments[3], atoi(arguments[5]))};
  TF_Tensor *ids = history(TF_OperationOutputType(input), count - 6, arguments + 6);
  TF_Tensor *answers[2] = {NULL, NULL};
  TF_SessionRun(session, NULL, &input, &ids, 1, wanted, answers, 2, NULL, 0, NULL, status);
  check(status, "encoding");

  const TF_TString *version = TF_TensorData(answers[1]);
  printf("%.*s\n", (int)TF_StringGetSize(version), TF_StringGetDataPointer(version));
  const float *vector = TF_TensorData(answers[0]);
  for (int64_t i = 0; i < TF_TensorElementCount(answers[0]); i++) printf("%.9g\n", vector[i]);

  TF_DeleteTensor(ids);
  TF_DeleteTensor(answers[0]);
  TF_DeleteTensor(answers[1]);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}
